// Taps: which pixels a coordinate reads along one axis, and with which weights.
//
// The same three ideas as in rules.py, for many points at a time: padding maps positions to
// positions (or, for bicubic and wrap, each tap's own index), taps are pixels with weights, and
// derivatives of the weights are weights on the same pixels. Loops run over points and hold no
// branch that depends on one, so that compilers turn them into vector code.

#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "call.h"

namespace jaxwarp {

// Comparisons and masks have the width of the numbers that they choose between.
template <class T> struct MaskOf;
template <> struct MaskOf<float> { using type = int32_t; };
template <> struct MaskOf<double> { using type = int64_t; };
template <class T> using Mask = typename MaskOf<T>::type;

constexpr int taps_of(Mode mode) { return mode == kNearest ? 1 : mode == kBilinear ? 2 : 4; }
constexpr int kMaxOrder = 3;

// One axis of the image, or a window of it.
template <class T> struct Axis {
  Padding padding;
  bool align_corners, normalized;
  int32_t length;       // of the array
  int32_t first, size;  // of the window
};

template <class T, int K, int P> struct AxisTaps {
  int32_t pixel[K][P];              // in the array, always within it
  Mask<T> inside[K][P];             // all bits set, or none
  T weight[kMaxOrder + 1][K][P];    // by the order of the derivative
  T slope[P];                       // of the position in the coordinate
  int32_t lowest[P];                // the first tap's pixel before padding, in the window
};

template <class T> inline T clamp(T x, T low, T high) {  // NaN gives `low`
  x = x > low ? x : low;
  return x < high ? x : high;
}

inline int32_t clamp_index(int32_t i, int32_t size) {
  i = i < size - 1 ? i : size - 1;
  return i > 0 ? i : 0;
}

// Padding of positions ----------------------------------------------------------

template <class T> struct Moved { T position, slope; };

// A float whose neighbours are a pixel apart says nothing about a place within one.
template <class T> inline Moved<T> keep_resolved(T p, T slope) {
  const T far = 1 / std::numeric_limits<T>::epsilon(), size = std::fabs(p);
  const bool finite = size <= std::numeric_limits<T>::max();
  return {finite ? p : T(0), size < far ? slope : T(0)};
}

template <class T, Padding> struct Finite;
template <class T> struct Finite<T, kZeros> {
  static Moved<T> of(T p, T slope, T) {
    const bool finite = std::fabs(p) <= std::numeric_limits<T>::max();
    return {finite ? p : T(-4), finite ? slope : T(0)};
  }
};
template <class T> struct Finite<T, kBorder> {
  // Four pixels out every tap of every mode is the edge pixel, so nothing is lost.
  static Moved<T> of(T p, T slope, T extent) {
    const T known = p == p ? p : T(0);
    const bool near = (p > -4) & (p < extent + 3);
    return {clamp<T>(known, -4, extent + 3), near ? slope : T(0)};
  }
};
template <class T> struct Finite<T, kReflection> {
  static Moved<T> of(T p, T slope, T) { return keep_resolved(p, slope); }
};
template <class T> struct Finite<T, kWrap> {
  static Moved<T> of(T p, T slope, T) { return keep_resolved(p, slope); }
};

// Clips to the outer centres; the slope is 0 on the bounds themselves, as torch's.
template <class T> inline Moved<T> clip(T p, T slope, T extent) {
  const bool within = (p > 0) & (p < extent - 1);
  return {clamp<T>(p, 0, extent - 1), within ? slope : T(0)};
}

template <class T> inline Moved<T> reflect(T p, T slope, T extent, bool align_corners) {
  const T low = align_corners ? T(0) : T(-0.5), span = align_corners ? extent - 1 : extent;
  const T period = 2 * span > 1 ? 2 * span : T(1);
  T x = std::fabs(p - low);
  T sign = p < low ? T(-1) : T(1);
  x = x - period * std::floor(x / period);
  sign = x > span ? -sign : sign;
  x = x > span ? period - x : x;
  return clip(x + low, slope * sign, extent);
}

template <class T> inline T wrap(T p, T extent) { return p - extent * std::floor(p / extent); }

template <class T, Padding padding>
inline Moved<T> pad(Moved<T> at, T extent, bool align_corners) {
  if (padding == kBorder) return clip(at.position, at.slope, extent);
  if (padding == kReflection) return reflect(at.position, at.slope, extent, align_corners);
  if (padding == kWrap) return {wrap(at.position, extent), at.slope};
  return at;
}

// Padding of taps ---------------------------------------------------------------

// Returns the k-th pixel from a whole-numbered position on; what is outside stays outside, but
// near. No float is converted that an integer could not hold.
template <class T, Mode mode, Padding padding>
inline int32_t pixel_at(T whole, int32_t k, int32_t size, bool align_corners) {
  const T extent = T(size);
  if (mode == kBicubic && padding == kReflection) {
    return int32_t(reflect(whole + T(k), T(0), extent, align_corners).position);
  }
  if (padding == kWrap) return int32_t(clamp<T>(wrap(whole + T(k), extent), 0, extent - 1));
  const int32_t near = int32_t(clamp<T>(whole, -4, extent + 3)) + k;
  return mode == kBicubic && padding == kBorder ? clamp_index(near, size) : near;
}

// Weights -----------------------------------------------------------------------

// Keys' cubic convolution, A = -0.75, at distances up to 1 and from 1 to 2.
template <class T> inline T keys_near(T x, int order) {
  const T a = T(-0.75);
  if (order == 0) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (order == 1) return (3 * (a + 2) * x - 2 * (a + 3)) * x;
  return order == 2 ? 6 * (a + 2) * x - 2 * (a + 3) : 6 * (a + 2);
}
template <class T> inline T keys_far(T x, int order) {
  const T a = T(-0.75);
  if (order == 0) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  if (order == 1) return (3 * a * x - 10 * a) * x + 8 * a;
  return order == 2 ? 6 * a * x - 10 * a : 6 * a;
}

template <class T, Mode mode> inline void weigh(T t, int order, T* w) {
  if (mode == kNearest) {
    w[0] = order == 0 ? T(1) : T(0);
  } else if (mode == kBilinear) {
    w[0] = order == 0 ? 1 - t : order == 1 ? T(-1) : T(0);
    w[1] = order == 0 ? t : order == 1 ? T(1) : T(0);
  } else {
    const T sign = order % 2 ? T(-1) : T(1);
    w[0] = keys_far(1 + t, order);
    w[1] = keys_near(t, order);
    w[2] = sign * keys_near(1 - t, order);
    w[3] = sign * keys_far(2 - t, order);
  }
}

// All together ------------------------------------------------------------------

// Finds the taps of the coordinates g[0], g[stride], ... of `count` points.
template <class T, Mode mode, Padding padding, int P>
void find_taps(const T* g, int stride, int count, const Axis<T>& axis, unsigned orders,
               AxisTaps<T, taps_of(mode), P>& taps) {
  constexpr int K = taps_of(mode), kLowest = mode == kBicubic ? -1 : 0;
  const T extent = T(axis.size), pixels = axis.align_corners ? extent - 1 : extent;
  const T unit = axis.normalized ? pixels / 2 : T(1);
  const T shift = axis.align_corners ? T(0) : T(0.5);
  const bool align = axis.align_corners, normalized = axis.normalized;
  T distance[P], whole[P];
  for (int p = 0; p < count; ++p) {
    const T at = normalized ? (g[p * stride] + 1) * unit - shift : g[p * stride];
    Moved<T> moved = Finite<T, padding>::of(at, unit, extent);
    if (mode != kBicubic) moved = pad<T, padding>(moved, extent, align);
    whole[p] = mode == kNearest ? std::nearbyint(moved.position) : std::floor(moved.position);
    distance[p] = moved.position - whole[p];
    taps.slope[p] = moved.slope;
    taps.lowest[p] = int32_t(clamp<T>(whole[p], -4, extent + 3)) + kLowest;
  }
  const int32_t size = axis.size, first = axis.first, length = axis.length;
  for (int k = 0; k < K; ++k) {
    for (int p = 0; p < count; ++p) {
      const int32_t pixel = pixel_at<T, mode, padding>(whole[p], k + kLowest, size, align);
      taps.inside[k][p] = -Mask<T>((pixel >= 0) & (pixel < size));
      // Added as 64 bits: a window may begin anywhere.
      const int64_t index = int64_t(first) + clamp_index(pixel, size);
      taps.pixel[k][p] = int32_t(index < 0 ? 0 : index < length ? index : length - 1);
    }
  }
  for (int order = 0; order <= kMaxOrder; ++order) {
    if (!(orders >> order & 1)) continue;
    for (int p = 0; p < count; ++p) {
      T w[K];
      weigh<T, mode>(distance[p], order, w);
      for (int k = 0; k < K; ++k) taps.weight[order][k][p] = w[k];
    }
  }
}

template <class T, Mode mode, int P>
void find_taps(const T* g, int stride, int count, const Axis<T>& axis, unsigned orders,
               AxisTaps<T, taps_of(mode), P>& taps) {
  switch (axis.padding) {
    case kZeros: return find_taps<T, mode, kZeros, P>(g, stride, count, axis, orders, taps);
    case kBorder: return find_taps<T, mode, kBorder, P>(g, stride, count, axis, orders, taps);
    case kReflection:
      return find_taps<T, mode, kReflection, P>(g, stride, count, axis, orders, taps);
    case kWrap: return find_taps<T, mode, kWrap, P>(g, stride, count, axis, orders, taps);
  }
}

}  // namespace jaxwarp

// Taps: which pixels a coordinate reads along one axis, and with which weights.
//
// The same three ideas as in rules.py, for many points at a time: padding maps positions to
// positions (or, for bicubic and wrap, each tap's own index), taps are pixels with weights, and
// derivatives of the weights are weights on the same pixels. Loops run over points and hold no
// branch that depends on one, so that compilers turn them into vector code.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "call.h"

// Compiled once, not again wherever it is called: that would triple the time to compile.
#define JAXWARP_ONCE __attribute__((noinline))

namespace jaxwarp {
namespace {

// Comparisons and masks have the width of the numbers that they choose between.
template <class T> struct MaskOf;
template <> struct MaskOf<float> { using type = int32_t; };
template <> struct MaskOf<double> { using type = int64_t; };
template <class T> using Mask = typename MaskOf<T>::type;

constexpr int taps_of(Mode mode) { return mode == kNearest ? 1 : mode == kBilinear ? 2 : 4; }
constexpr int kMaxOrder = 3;
// A window is never taken for larger: its end must be an int32, and a float, with room to spare.
constexpr int32_t kMostPixels = 1 << 30;

// One axis of the image, or a window of it, and what its coordinates mean: the position of g is
// (g + add) * unit - offset, and reflection is about `low` and low + span.
template <class T> struct Axis {
  Padding padding;
  int32_t length;       // of the array
  int32_t first, size;  // of the window
  T extent, add, unit, offset, low, span;

  Axis(const Call& call, int a, const int32_t* window)
      : padding(Padding(call.padding[a])), length(int32_t(call.spatial[a])),
        first(window ? window[2 * a] : 0),
        size(window ? std::min(std::max(window[2 * a + 1], 0), kMostPixels) : length),
        extent(T(size)), add(call.normalized ? 1 : 0), unit(1), offset(0),
        low(call.align_corners ? T(0) : T(-0.5)),
        span(call.align_corners ? extent - 1 : extent) {
    if (call.normalized) unit = span / 2, offset = -low;
  }
};

// The taps of some points. A point's K taps are next to each other wherever they can be: then the
// lanes start, start + 1, ... hold them, shifted where the outer ones are beyond the image. A lane
// that is no tap weighs nothing; what it reads must be masked only where that is not finite.
template <class T, int K, int P> struct AxisTaps {
  int32_t start[P];
  T weight[kMaxOrder + 1][K][P];  // of each lane, by the order of the derivative
  T slope[P];                     // of the position in the coordinate, if derivatives are asked for
  bool shifted;                   // some lane is no tap of its point:
  int32_t shift[P];               // the lane of the first tap is as many to the left of `start`
  bool masked;                    // some tap that weighs something is outside
  Mask<T> mask[K][P];             // all bits set for a tap inside; valid only if `masked`
  bool odd;                       // some point's taps are not next to each other:
  bool is_odd[P];                 // which; its lanes are then its taps, in their order,
  int32_t pixel[K][P];            // and these their pixels (all three valid only if `odd`)
  bool scattered;                 // lanes cannot be read where they stand, all points are odd
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
  // Four pixels out every tap of every mode is the edge pixel, so nothing is lost. NaN goes to
  // the first pixel's side.
  static Moved<T> of(T p, T slope, T extent) {
    const bool near = (p > -4) & (p < extent + 3);
    return {clamp<T>(p, -4, extent + 3), near ? slope : T(0)};
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

template <class T> inline Moved<T> reflect(T p, T slope, T extent, T low, T span) {
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
inline Moved<T> pad(T p, T slope, T extent, T low, T span) {
  if (padding == kBorder) return clip(p, slope, extent);  // whatever p is
  const Moved<T> at = Finite<T, padding>::of(p, slope, extent);
  if (padding == kReflection) return reflect(at.position, at.slope, extent, low, span);
  if (padding == kWrap) return {wrap(at.position, extent), at.slope};
  return at;
}

// Padding of taps ---------------------------------------------------------------

// Returns the k-th pixel from a whole-numbered position on; what is outside stays outside, but
// near. No float is converted that an integer could not hold.
template <class T, Mode mode, Padding padding>
inline int32_t pixel_at(T whole, int32_t k, const Axis<T>& axis) {
  const T extent = axis.extent;
  if (mode == kBicubic && padding == kReflection) {
    return int32_t(reflect(whole + T(k), T(0), extent, axis.low, axis.span).position);
  }
  if (padding == kWrap) return int32_t(clamp<T>(wrap(whole + T(k), extent), 0, extent - 1));
  const int32_t near = int32_t(clamp<T>(whole, -4, extent + 3)) + k;
  return mode == kBicubic && padding == kBorder ? clamp_index(near, axis.size) : near;
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

// Whether padding gives a tap a pixel that is not next to the others'.
constexpr bool moves_taps(Mode mode, Padding padding) {
  return mode == kBicubic ? padding != kZeros : padding == kWrap;
}

// Finds the taps of the coordinates g[0], g[N], ... of `count` points along one axis.
template <class T, Mode mode, Padding padding, int N, int P> class TapFinder {
 public:
  static constexpr int K = taps_of(mode), kLowest = mode == kBicubic ? -1 : 0;
  using Taps = AxisTaps<T, K, P>;

  JAXWARP_ONCE static void find(const T* g, int count, const Axis<T>& axis, unsigned orders,
                                Taps& taps) {
    const bool shifted = orders == 1 ? place<false>(g, count, axis, orders, taps)
                                     : place<true>(g, count, axis, orders, taps);
    const bool within = axis.first >= 0 && int64_t(axis.first) + axis.size <= axis.length;
    taps.scattered = axis.size < K || !within;
    taps.odd = taps.scattered || (shifted && moves_taps(mode, padding));
    taps.shifted = shifted && !taps.odd;
    taps.masked = taps.scattered;
    if (!taps.odd && !taps.shifted) return;
    T whole[P];
    follow(g, count, axis, whole, taps.shift);
    if (taps.odd) {
      find_pixels(whole, count, axis, taps);
    } else {
      shift_lanes(count, orders, taps);
    }
  }

 private:
  // Axis values in registers: compilers do not know that the arrays are not these.
  struct Where {
    T extent, add, unit, offset, low, span;
    int32_t starts;

    explicit Where(const Axis<T>& axis)
        : extent(axis.extent), add(axis.add), unit(axis.unit), offset(axis.offset),
          low(axis.low), span(axis.span), starts(axis.size - K + 1) {}

    Moved<T> move(T g) const {
      const T at = (g + add) * unit - offset;
      return mode == kBicubic ? Finite<T, padding>::of(at, unit, extent)
                              : pad<T, padding>(at, unit, extent, low, span);
    }
    T anchor(T position) const {
      return mode == kNearest ? std::nearbyint(position) : std::floor(position);
    }
    int32_t lowest(T anchor) const {
      return int32_t(clamp<T>(anchor, -4, extent + 3)) + kLowest;
    }
  };

  // Finds starts and weights, and slopes with `derive`; returns whether any lane is shifted.
  // All points want this; what only some want is left to `follow`, since storing costs most.
  template <bool derive>
  static bool place(const T* g, int count, const Axis<T>& axis, unsigned orders, Taps& taps) {
    const Where where(axis);
    const uint32_t first = uint32_t(axis.first);
    T distance[P];
    int32_t any = 0;
    for (int p = 0; p < count; ++p) {
      const Moved<T> moved = where.move(g[p * N]);
      const T anchor = where.anchor(moved.position), t = moved.position - anchor;
      const int32_t lowest = where.lowest(anchor), start = clamp_index(lowest, where.starts);
      taps.start[p] = int32_t(first + uint32_t(start));
      any |= lowest - start;
      if (derive) {
        taps.slope[p] = moved.slope;
        distance[p] = t;
      } else {
        T w[K];
        weigh<T, mode>(t, 0, w);
        for (int k = 0; k < K; ++k) taps.weight[0][k][p] = w[k];
      }
    }
    for (int order = 0; derive && order <= kMaxOrder; ++order) {
      if (orders >> order & 1) weigh_lanes(distance, count, order, taps.weight[order]);
    }
    return any != 0;
  }

  // Finds the whole pixel under each position, and by how much its lanes are shifted.
  JAXWARP_ONCE static void follow(const T* g, int count, const Axis<T>& axis, T* whole,
                                  int32_t* shift) {
    const Where where(axis);
    for (int p = 0; p < count; ++p) {
      whole[p] = where.anchor(where.move(g[p * N]).position);
      const int32_t lowest = where.lowest(whole[p]);
      shift[p] = lowest - clamp_index(lowest, where.starts);
    }
  }

  JAXWARP_ONCE static void weigh_lanes(const T* distance, int count, int order,
                                       T (&weight)[K][P]) {
    for (int p = 0; p < count; ++p) {
      T w[K];
      weigh<T, mode>(distance[p], order, w);
      for (int k = 0; k < K; ++k) weight[k][p] = w[k];
    }
  }

  // Moves weights to the lanes where their taps' pixels are.
  JAXWARP_ONCE static void shift_lanes(int count, unsigned orders, Taps& taps) {
    const int32_t* shift = taps.shift;
    for (int order = 0; order <= kMaxOrder; ++order) {
      if (!(orders >> order & 1)) continue;
      auto& weight = taps.weight[order];
      for (int p = 0; p < count; ++p) {
        T moved[K];
        for (int lane = 0; lane < K; ++lane) {
          moved[lane] = 0;
          for (int k = 0; k < K; ++k) {
            moved[lane] = shift[p] == lane - k ? weight[k][p] : moved[lane];
          }
        }
        for (int lane = 0; lane < K; ++lane) weight[lane][p] = moved[lane];
      }
    }
  }

  // Follows each tap by itself.
  JAXWARP_ONCE static void find_pixels(const T* whole, int count, const Axis<T>& axis,
                                       Taps& taps) {
    const Axis<T> local = axis;
    const bool all = taps.scattered;
    for (int p = 0; p < count; ++p) taps.is_odd[p] = all || taps.shift[p] != 0;
    for (int k = 0; k < K; ++k) {
      for (int p = 0; p < count; ++p) {
        const int32_t pixel = pixel_at<T, mode, padding>(whole[p], k + kLowest, local);
        taps.mask[k][p] = -Mask<T>((pixel >= 0) & (pixel < local.size));
        // In 64 bits: a window may begin anywhere.
        const int64_t index = int64_t(local.first) + clamp_index(pixel, local.size);
        taps.pixel[k][p] = int32_t(index < 0 ? 0 : index < local.length ? index : local.length - 1);
      }
    }
  }
};

template <class T, Mode mode, int N, int P>
void find_taps(const T* g, int count, const Axis<T>& axis, unsigned orders,
               AxisTaps<T, taps_of(mode), P>& taps) {
  switch (axis.padding) {
    case kZeros: return TapFinder<T, mode, kZeros, N, P>::find(g, count, axis, orders, taps);
    case kBorder: return TapFinder<T, mode, kBorder, N, P>::find(g, count, axis, orders, taps);
    case kReflection:
      return TapFinder<T, mode, kReflection, N, P>::find(g, count, axis, orders, taps);
    case kWrap: return TapFinder<T, mode, kWrap, N, P>::find(g, count, axis, orders, taps);
  }
}

}  // namespace
}  // namespace jaxwarp

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
  bool shifted;                   // some lane is no tap of its point
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
  // Four pixels out every tap of every mode is outside, where nothing depends on the place.
  static Moved<T> of(T p, T slope, T extent) { return {clamp<T>(p, -4, extent + 3), slope}; }
};
template <class T> struct Finite<T, kBorder> {
  // Four pixels out every tap of every mode is the edge pixel, so nothing is lost. NaN is the first
  // pixel's place.
  static Moved<T> of(T p, T slope, T extent) {
    const bool near = (p > -4) & (p < extent + 3);
    return {p == p ? clamp<T>(p, -4, extent + 3) : T(0), near ? slope : T(0)};
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

// The weights of K taps, `t` beyond the first of them (for bicubic the second) and less than one.
template <class T, Mode mode> inline void weigh_taps(T t, int order, T* w) {
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

// The weights of K lanes, `t` beyond the first of them, which may be any distance (for nearest, of
// the nearest pixel): it tells each lane's weight, and so whether it is a tap at all.
template <class T, Mode mode> inline void weigh_lanes(T t, int order, T* w) {
  if (mode == kNearest) {
    w[0] = ((order == 0) & (t == 0)) ? T(1) : T(0);
  } else if (order == 0) {
    const T one = std::min(1 - t, 1 + t), two = std::min(t, 2 - t);
    w[0] = one > 0 ? one : T(0);  // one instruction, as std::max is not
    w[1] = two > 0 ? two : T(0);
  } else {
    const T one = order == 1 ? T(1) : T(0);
    w[0] = ((t < -1) | (t >= 1)) ? T(0) : t < 0 ? one : -one;
    w[1] = ((t < 0) | (t >= 2)) ? T(0) : t < 1 ? one : -one;
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
    const bool within = axis.first >= 0 && int64_t(axis.first) + axis.size <= axis.length;
    taps.scattered = axis.size < K || !within;
    constexpr bool direct = mode != kBicubic && !moves_taps(mode, padding);
    const auto place = taps.scattered || !direct
                           ? (orders == 1 ? place_points<false, false> : place_points<true, false>)
                           : (orders == 1 ? place_points<false, direct>
                                          : place_points<true, direct>);
    const bool shifted = place(g, count, axis, orders, taps);
    taps.odd = taps.scattered || (shifted && moves_taps(mode, padding));
    taps.shifted = shifted && !taps.odd;
    taps.masked = taps.scattered;
    if (taps.odd) find_pixels(g, count, axis, taps);
    if (taps.shifted && !direct) shift_weights(g, count, axis, orders, taps);
  }

  // Finds which lanes are taps, where some are not.
  JAXWARP_ONCE static void mask(const T* g, int count, const Axis<T>& axis, Taps& taps) {
    int32_t shift[P];
    find_shifts(g, count, axis, shift);
    for (int k = 0; k < K; ++k) {
      for (int p = 0; p < count; ++p) {
        const int32_t tap = k - shift[p];
        taps.mask[k][p] = -Mask<T>((tap >= 0) & (tap < K));
      }
    }
  }

 private:
  // Whether `move` leaves nothing more than four pixels outside.
  static constexpr bool is_near = padding == kZeros || padding == kBorder ||
                                  (padding == kReflection && mode != kBicubic);

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
      return int32_t(is_near ? anchor : clamp<T>(anchor, -4, extent + 3)) + kLowest;
    }
  };

  // Finds starts and weights, and slopes with `derive`; returns whether any lane is no tap.
  // All points want this; what only some want is left to others, since storing costs most.
  // With `direct`, lanes are weighed where they are; else taps, and lanes must be shifted.
  template <bool derive, bool direct>
  static bool place_points(const T* g, int count, const Axis<T>& axis, unsigned orders,
                           Taps& taps) {
    const Where where(axis);
    const uint32_t first = uint32_t(axis.first);
    T distance[P];
    int32_t any = 0;
    for (int p = 0; p < count; ++p) {
      const Moved<T> moved = where.move(g[p * N]);
      const T anchor = where.anchor(moved.position);
      const int32_t lowest = where.lowest(anchor), start = clamp_index(lowest, where.starts);
      taps.start[p] = int32_t(first + uint32_t(start));
      any |= lowest - start;
      const T lane = direct ? T(start) : anchor;
      const T t = direct && mode == kNearest ? T(lowest - start) : moved.position - lane;
      if (derive) {
        taps.slope[p] = moved.slope;
        distance[p] = t;
      } else {
        T w[K];
        weigh<direct>(t, 0, w);
        for (int k = 0; k < K; ++k) taps.weight[0][k][p] = w[k];
      }
    }
    for (int order = 0; derive && order <= kMaxOrder; ++order) {
      if (orders >> order & 1) weigh_points<direct>(distance, count, order, taps.weight[order]);
    }
    return any != 0;
  }

  template <bool direct> static void weigh(T t, int order, T* w) {
    if constexpr (direct) {
      weigh_lanes<T, mode>(t, order, w);
    } else {
      weigh_taps<T, mode>(t, order, w);
    }
  }

  template <bool direct>
  JAXWARP_ONCE static void weigh_points(const T* distance, int count, int order,
                                        T (&weight)[K][P]) {
    for (int p = 0; p < count; ++p) {
      T w[K];
      weigh<direct>(distance[p], order, w);
      for (int k = 0; k < K; ++k) weight[k][p] = w[k];
    }
  }

  // Finds by how many lanes each point's first tap is to the left of its start.
  JAXWARP_ONCE static void find_shifts(const T* g, int count, const Axis<T>& axis,
                                       int32_t* shift) {
    const Where where(axis);
    for (int p = 0; p < count; ++p) {
      const int32_t lowest = where.lowest(where.anchor(where.move(g[p * N]).position));
      shift[p] = lowest - clamp_index(lowest, where.starts);
    }
  }

  // Moves weights to the lanes where their taps' pixels are.
  JAXWARP_ONCE static void shift_weights(const T* g, int count, const Axis<T>& axis,
                                         unsigned orders, Taps& taps) {
    int32_t shift[P];
    find_shifts(g, count, axis, shift);
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
  JAXWARP_ONCE static void find_pixels(const T* g, int count, const Axis<T>& axis, Taps& taps) {
    const Where where(axis);
    const Axis<T> local = axis;
    const bool all = taps.scattered;
    T whole[P];
    for (int p = 0; p < count; ++p) {
      whole[p] = where.anchor(where.move(g[p * N]).position);
      const int32_t lowest = where.lowest(whole[p]);
      taps.is_odd[p] = all || lowest != clamp_index(lowest, where.starts);
    }
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

// Calls f with the TapFinder for an axis' padding.
template <class T, Mode mode, int N, int P, class F> void with_finder(const Axis<T>& axis, F f) {
  switch (axis.padding) {
    case kZeros: return f(TapFinder<T, mode, kZeros, N, P>());
    case kBorder: return f(TapFinder<T, mode, kBorder, N, P>());
    case kReflection: return f(TapFinder<T, mode, kReflection, N, P>());
    case kWrap: return f(TapFinder<T, mode, kWrap, N, P>());
  }
}

}  // namespace
}  // namespace jaxwarp

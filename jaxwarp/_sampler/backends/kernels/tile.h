// Tiles: what a few hundred points read, found once for all channels.
//
// A point's neighbours lie in rows along the last axis. Where a row's taps are next to each
// other in memory they are read as one run of K numbers, which begins at `start`; lanes of a run
// that are no tap of the point are masked. The few points where that cannot be (a bicubic tap
// padded at a border, a wrapped pair, a very narrow image) are listed as `odd`, and name each
// neighbour's pixel.

#pragma once

#include <cstring>

#include "taps.h"

namespace jaxwarp {

constexpr int power(int base, int exponent) {
  return exponent == 0 ? 1 : base * power(base, exponent - 1);
}

// How many points: what is known of them stays in the first-level cache.
constexpr int points_of(int rows, int lanes) {
  const int most = 2048 / (rows * lanes);
  return most > 256 ? 256 : most;
}

template <class T, Mode mode, int N> struct Tile {
  static constexpr int K = taps_of(mode), R = power(K, N - 1), P = points_of(R, K);

  int count;                     // of points
  int32_t start[R][P];           // pixel of each row's run
  T weight[R][P * K];            // the lanes of a run next to each other
  Mask<T> mask[R][P * K];        // valid only if `masked`
  bool masked;                   // some lane of some point is outside
  bool scattered;                // every point is odd
  int odd_count;
  int32_t odd[P];                // which points
  int32_t odd_pixel[P][R * K];   // their neighbours

  AxisTaps<T, K, P> axis[N];     // the last axis' taps moved to their lanes
};

// Which derivatives of the weights are needed along each axis, as bits.
struct Orders {
  unsigned along[kMaxAxes];
};

inline Orders orders_of(const Call& call) {
  Orders orders{};
  for (int a = 0; a < call.axes; ++a) {
    for (int m = 0; m < call.terms; ++m) orders.along[a] |= 1u << call.orders[m * call.axes + a];
  }
  return orders;
}

template <class T> Axis<T> axis_of(const Call& call, int a, const int32_t* window) {
  const int32_t length = int32_t(call.spatial[a]), most = 1 << 30;
  const int32_t size = window ? window[2 * a + 1] : length;
  return {Padding(call.padding[a]), call.align_corners != 0, call.normalized != 0, length,
          window ? window[2 * a] : 0, size < 0 ? 0 : size < most ? size : most};
}

template <class T, Mode mode, int N> class TileBuilder {
 public:
  using TileT = Tile<T, mode, N>;
  static constexpr int K = TileT::K, R = TileT::R, P = TileT::P;

  explicit TileBuilder(const Call& call) : call_(call), orders_(orders_of(call)) {}

  // Looks at `count` points of an image from `first` on; they share a window.
  void find(int64_t image, int64_t first, int count, TileT& tile) const {
    const int64_t at = image * call_.points + first;
    const T* grid = static_cast<const T*>(call_.grid) + at * N;
    const int32_t* window = nullptr;
    if (call_.windows) {
      const int64_t shared = call_.points / call_.windows;
      window = call_.window + (image * call_.windows + first / shared) * N * 2;
    }
    tile.count = count;
    Axis<T> axes[N];
    Mask<T> all = ~Mask<T>(0);
    for (int a = 0; a < N; ++a) {
      axes[a] = axis_of<T>(call_, a, window);
      find_taps<T, mode, P>(grid + (N - 1 - a), N, count, axes[a], orders_.along[a], tile.axis[a]);
      for (int k = 0; k < K; ++k) {
        for (int p = 0; p < count; ++p) all &= tile.axis[a].inside[k][p];
      }
    }
    tile.masked = all == 0;
    list_odd(axes[N - 1], tile);
    if (tile.odd_count) name_pixels(tile);
    if (!tile.scattered) align_lanes(axes[N - 1], tile);
    find_starts(tile);
    if (tile.masked) find_masks(tile);
  }

  // Computes each neighbour's weight: of the terms together, scaled.
  void weigh(int64_t image, int64_t first, TileT& tile) const {
    const T* scale = static_cast<const T*>(call_.scale);
    if (scale) scale += (image * call_.points + first) * call_.terms;
    for (int m = 0; m < call_.terms; ++m) {
      T factor[P];
      for (int p = 0; p < tile.count; ++p) factor[p] = scale ? scale[p * call_.terms + m] : T(1);
      chain(m, tile, factor);
      for (int r = 0; r < R; ++r) {
        T row[P];
        for (int p = 0; p < tile.count; ++p) row[p] = factor[p];
        weigh_row(m, r, tile, row);
        const auto& lane = tile.axis[N - 1].weight[order(m, N - 1)];
        T* weight = tile.weight[r];
        for (int k = 0; k < K; ++k) {
          if (m == 0) {
            for (int p = 0; p < tile.count; ++p) weight[p * K + k] = row[p] * lane[k][p];
          } else {
            for (int p = 0; p < tile.count; ++p) weight[p * K + k] += row[p] * lane[k][p];
          }
        }
      }
    }
  }

  // Multiplies by the weights of a row's taps on the axes before the last.
  void weigh_row(int m, int r, const TileT& tile, T* row) const {
    for (int a = N - 2; a >= 0; --a, r /= K) {
      const T* weight = tile.axis[a].weight[order(m, a)][r % K];
      for (int p = 0; p < tile.count; ++p) row[p] *= weight[p];
    }
  }

  // Multiplies by a term's chain-rule factor: each axis' slope as often as it is derived.
  void chain(int m, const TileT& tile, T* factor) const {
    for (int a = 0; a < N; ++a) {
      for (int i = 0; i < order(m, a); ++i) {
        for (int p = 0; p < tile.count; ++p) factor[p] *= tile.axis[a].slope[p];
      }
    }
  }

  int order(int m, int a) const { return call_.orders[m * N + a]; }

 private:
  // A run must be readable where it stands, and its taps must be where it says they are.
  static void list_odd(const Axis<T>& last, TileT& tile) {
    const bool within = last.first >= 0 && int64_t(last.first) + last.size <= last.length;
    tile.scattered = last.length < K || !within;
    tile.odd_count = 0;
    const bool moves_taps =
        last.padding == kWrap || (mode == kBicubic && last.padding != kZeros);
    if (!tile.scattered && !(moves_taps && K > 1)) return;
    const int32_t* lowest = tile.axis[N - 1].lowest;
    for (int p = 0; p < tile.count; ++p) {
      const bool beyond = (lowest[p] < 0) | (lowest[p] > last.size - K);
      tile.odd[tile.odd_count] = p;
      tile.odd_count += tile.scattered | beyond;
    }
  }

  void name_pixels(TileT& tile) const {
    for (int i = 0; i < tile.odd_count; ++i) {
      const int p = tile.odd[i];
      for (int r = 0; r < R; ++r) {
        const int32_t row = row_of(tile, r, p) * int32_t(call_.spatial[N - 1]);
        for (int k = 0; k < K; ++k) {
          tile.odd_pixel[i][r * K + k] = row + tile.axis[N - 1].pixel[k][p];
        }
      }
    }
  }

  // Moves runs into the image, and taps to the lanes where their pixels now are.
  void align_lanes(const Axis<T>& last, TileT& tile) const {
    auto& taps = tile.axis[N - 1];
    if (K == 1) {
      for (int p = 0; p < tile.count; ++p) taps.lowest[p] = taps.pixel[0][p];
      return;
    }
    int32_t shifts[P], any = 0;
    for (int p = 0; p < tile.count; ++p) {
      const int32_t lowest = taps.lowest[p] + last.first;
      const int32_t start = clamp_index(lowest, last.length - K + 1);
      taps.lowest[p] = start;
      shifts[p] = lowest - start;
      any |= shifts[p];
    }
    if (!any) return;
    int next_odd = 0;
    for (int p = 0; p < tile.count; ++p) {
      if (next_odd < tile.odd_count && tile.odd[next_odd] == p) {  // its taps are its lanes
        ++next_odd;
      } else if (shifts[p]) {
        shift_lanes(p, shifts[p], taps);
      }
    }
  }

  void shift_lanes(int p, int32_t shift, AxisTaps<T, K, P>& taps) const {
    for (int order = 0; order <= kMaxOrder; ++order) {
      if (orders_.along[N - 1] >> order & 1) shift_lane(p, shift, taps.weight[order]);
    }
    shift_lane(p, shift, taps.inside);
  }

  template <class X> static void shift_lane(int p, int32_t shift, X (&taps)[K][P]) {
    X moved[K];
    for (int j = 0; j < K; ++j) {
      const int32_t k = j - shift;
      moved[j] = k >= 0 && k < K ? taps[k][p] : X(0);
    }
    for (int j = 0; j < K; ++j) taps[j][p] = moved[j];
  }

  int32_t row_of(const TileT& tile, int r, int p) const {
    int32_t row = 0, stride = 1;
    for (int a = N - 2; a >= 0; --a, r /= K) {
      row += tile.axis[a].pixel[r % K][p] * stride;
      stride *= int32_t(call_.spatial[a]);
    }
    return row;
  }

  void find_starts(TileT& tile) const {
    const int32_t length = int32_t(call_.spatial[N - 1]);
    const int32_t* lowest = tile.axis[N - 1].lowest;
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < tile.count; ++p) {
        tile.start[r][p] = row_of(tile, r, p) * length + lowest[p];
      }
    }
  }

  static void find_masks(TileT& tile) {
    for (int r = 0; r < R; ++r) {
      Mask<T> row[P];
      for (int p = 0; p < tile.count; ++p) row[p] = ~Mask<T>(0);
      for (int a = N - 2, rest = r; a >= 0; --a, rest /= K) {
        for (int p = 0; p < tile.count; ++p) row[p] &= tile.axis[a].inside[rest % K][p];
      }
      for (int k = 0; k < K; ++k) {
        const Mask<T>* lane = tile.axis[N - 1].inside[k];
        for (int p = 0; p < tile.count; ++p) tile.mask[r][p * K + k] = row[p] & lane[p];
      }
    }
  }

  const Call& call_;
  const Orders orders_;
};

}  // namespace jaxwarp

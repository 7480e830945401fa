// Tiles: what a few hundred points read, found once for all channels.
//
// A point's neighbours lie in rows along the last axis. Where a row's taps are next to each other
// in memory they are read as one run of K numbers, which begins at `start`; lanes of a run that
// are no tap of the point are masked. The few points where that cannot be (a bicubic tap padded
// at a border, a pair that wraps, a very narrow image) are listed as `odd`, with the pixel of
// every neighbour.

#pragma once

#include <cstring>

#include "taps.h"

namespace jaxwarp {
namespace {

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

  int64_t image, first;          // which points
  int count;                     // and how many of them
  int32_t start[P];              // pixel of the first row's run
  int32_t row[R];                // the pixels from there to the other rows' runs
  T weight[R][P * K];            // the lanes of a run next to each other
  Mask<T> mask[R][P * K];        // valid only if `masked`
  bool masked;                   // some lane of some point is outside, and `mask` says which
  bool shifted;                  // some lane is outside, but weighs nothing; there is no mask yet
  bool scattered;                // every point is odd
  int odd_count;
  int32_t odd[P];                // which points
  int32_t odd_pixel[P][R * K];   // their neighbours

  AxisTaps<T, K, P> axis[N];
};

// Which derivatives of the weights are needed along each axis, as bits.
struct Orders {
  unsigned along[kMaxAxes];
  bool none;  // a single term, underived
};

inline Orders orders_of(const Call& call) {
  Orders orders{};
  for (int a = 0; a < call.axes; ++a) {
    for (int m = 0; m < call.terms; ++m) orders.along[a] |= 1u << call.orders[m * call.axes + a];
  }
  orders.none = call.terms == 1;
  for (int a = 0; a < call.axes; ++a) orders.none = orders.none && orders.along[a] == 1;
  return orders;
}

template <class T, Mode mode, int N> class TileBuilder {
 public:
  using TileT = Tile<T, mode, N>;
  static constexpr int K = TileT::K, R = TileT::R, P = TileT::P;

  // Rows of the image begin `pitch` pixels apart.
  TileBuilder(const Call& call, int64_t pitch) : call_(call), orders_(orders_of(call)) {
    int64_t stride = 1;
    for (int a = N - 1; a >= 0; --a) {
      stride_[a] = int32_t(stride);
      stride *= a == N - 1 ? pitch : call.spatial[a];
    }
  }

  // Looks at `count` points of an image from `first` on; they share a window.
  JAXWARP_ONCE void find(int64_t image, int64_t first, int count, TileT& tile) const {
    tile.image = image;
    tile.first = first;
    tile.count = count;
    tile.masked = tile.scattered = tile.shifted = false;
    bool odd = false;
    for (int a = 0; a < N; ++a) {
      const Axis<T> axis(call_, a, window_of(tile));
      with_finder<T, mode, N, P>(axis, [&](auto finder) {
        finder.find(grid_of(tile, a), count, axis, orders_.along[a], tile.axis[a]);
      });
      tile.masked |= tile.axis[a].masked;
      tile.shifted |= tile.axis[a].shifted;
      tile.scattered |= tile.axis[a].scattered;
      odd |= tile.axis[a].odd;
    }
    tile.odd_count = 0;
    if (odd) list_odd(tile);
    if (!tile.scattered) find_starts(tile);
    if (tile.masked) mask(tile);
  }

  // Finds which lanes are outside.
  JAXWARP_ONCE void mask(TileT& tile) const {
    tile.masked = true;
    tile.shifted = false;
    if (mode == kNearest && orders_.none && !tile.odd_count) return mask_weightless(tile);
    for (int a = 0; a < N; ++a) {
      auto& taps = tile.axis[a];
      if (taps.shifted) {
        const Axis<T> axis(call_, a, window_of(tile));
        with_finder<T, mode, N, P>(axis, [&](auto finder) {
          finder.mask(grid_of(tile, a), tile.count, axis, taps);
        });
      } else if (!taps.odd) {
        for (int k = 0; k < K; ++k) std::fill_n(taps.mask[k], tile.count, ~Mask<T>(0));
      }
    }
    find_masks(tile);
  }

  // Computes each neighbour's weight: of the terms together, scaled.
  JAXWARP_ONCE void weigh(int64_t image, int64_t first, TileT& tile) const {
    const T* scale = static_cast<const T*>(call_.scale);
    if (scale) scale += (image * call_.points + first) * call_.terms;
    if (is_plain()) return weigh_plainly(tile);
    for (int m = 0; m < call_.terms; ++m) {
      T factor[P];
      for (int p = 0; p < tile.count; ++p) factor[p] = scale ? scale[p * call_.terms + m] : T(1);
      chain(m, tile, factor);
      for (int r = 0; r < R; ++r) {
        T row[P];
        weigh_row(m, r, tile, factor, row);
        const auto& lane = tile.axis[N - 1].weight[order(m, N - 1)];
        T* __restrict weight = tile.weight[r];
        const bool begins = m == 0;
        for (int p = 0; p < tile.count; ++p) {
          for (int k = 0; k < K; ++k) {
            const T before = begins ? T(0) : weight[p * K + k];
            weight[p * K + k] = before + row[p] * lane[k][p];
          }
        }
      }
    }
  }

  // Multiplies `factor` by the weights of a row's taps on the axes before the last.
  void weigh_row(int m, int r, const TileT& tile, const T* factor, T* __restrict row) const {
    const T* one = N > 1 ? tile.axis[0].weight[order(m, 0)][N == 3 ? r / K : r] : factor;
    const T* two = N > 2 ? tile.axis[N - 2].weight[order(m, N - 2)][r % K] : factor;
    for (int p = 0; p < tile.count; ++p) {
      row[p] = N == 1 ? factor[p] : N == 2 ? factor[p] * one[p] : factor[p] * one[p] * two[p];
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

  // Whether every weight is a product of the axes' own.
  bool is_plain() const { return call_.scale == nullptr && orders_.none; }

  int order(int m, int a) const { return call_.orders[m * N + a]; }

 private:
  const T* grid_of(const TileT& tile, int a) const {
    const int64_t at = tile.image * call_.points + tile.first;
    return static_cast<const T*>(call_.grid) + at * N + (N - 1 - a);
  }

  const int32_t* window_of(const TileT& tile) const {
    if (!call_.windows) return nullptr;
    const int64_t shared = call_.points / call_.windows;
    return call_.window + (tile.image * call_.windows + tile.first / shared) * N * 2;
  }

  // Multiplies the axes' weights: one term, no derivative and no scale.
  static void weigh_plainly(TileT& tile) {
    const auto& lane = tile.axis[N - 1].weight[0];
    for (int r = 0; r < R; ++r) {
      const T* one = tile.axis[0].weight[0][N == 3 ? r / K : r % K];
      const T* two = tile.axis[N == 3 ? 1 : 0].weight[0][r % K];
      T* __restrict weight = tile.weight[r];
      for (int p = 0; p < tile.count; ++p) {
        const T row = N == 1 ? T(1) : N == 2 ? one[p] : one[p] * two[p];
        for (int k = 0; k < K; ++k) weight[p * K + k] = N == 1 ? lane[k][p] : row * lane[k][p];
      }
    }
  }

  // Where an axis is odd at a point, its taps are named, and on the other axes its lanes.
  void list_odd(TileT& tile) const {
    for (int p = 0; p < tile.count; ++p) {
      bool odd = false;
      for (int a = 0; a < N; ++a) odd |= tile.axis[a].odd && tile.axis[a].is_odd[p];
      if (!odd) continue;
      int32_t* pixel = tile.odd_pixel[tile.odd_count];
      tile.odd[tile.odd_count++] = p;
      for (int t = 0; t < R * K; ++t) {
        int32_t flat = 0;
        for (int a = N - 1, rest = t; a >= 0; --a, rest /= K) {
          flat += lane_pixel(tile.axis[a], rest % K, p) * stride_[a];
        }
        pixel[t] = flat;
      }
    }
  }

  static int32_t lane_pixel(const AxisTaps<T, K, P>& axis, int lane, int p) {
    return axis.odd && axis.is_odd[p] ? axis.pixel[lane][p] : axis.start[p] + lane;
  }

  void find_starts(TileT& tile) const {
    int32_t strides[N];  // compilers do not know that starts are not these
    std::copy_n(stride_, N, strides);
    for (int r = 0; r < R; ++r) {
      tile.row[r] = 0;
      for (int a = N - 2, rest = r; a >= 0; --a, rest /= K) tile.row[r] += rest % K * strides[a];
    }
    for (int p = 0; p < tile.count; ++p) {
      int32_t start = tile.axis[N - 1].start[p];
      for (int a = 0; a < N - 1; ++a) start += tile.axis[a].start[p] * strides[a];
      tile.start[p] = start;
    }
  }

  // The same for nearest, where the only tap of a point weighs one if it is inside.
  static void mask_weightless(TileT& tile) {
    const int count = tile.count;  // compilers do not know that masks are not this
    const T* one = tile.axis[0].weight[0][0];
    const T* two = tile.axis[N > 1 ? 1 : 0].weight[0][0];
    const T* three = tile.axis[N - 1].weight[0][0];
    Mask<T>* __restrict mask = tile.mask[0];
    for (int p = 0; p < count; ++p) mask[p] = -Mask<T>(one[p] * two[p] * three[p] != 0);
  }

  static void find_masks(TileT& tile) {
    const int count = tile.count;  // compilers do not know that masks are not this
    const auto& lane = tile.axis[N - 1].mask;
    for (int r = 0; r < R; ++r) {
      const Mask<T>* one = tile.axis[0].mask[N == 3 ? r / K : r % K];
      const Mask<T>* two = tile.axis[N == 3 ? 1 : 0].mask[r % K];
      Mask<T>* __restrict mask = tile.mask[r];
      for (int p = 0; p < count; ++p) {
        const Mask<T> row = N == 1 ? ~Mask<T>(0) : one[p] & two[p];
        for (int k = 0; k < K; ++k) mask[p * K + k] = row & lane[k][p];
      }
    }
  }

  const Call& call_;
  const Orders orders_;
  int32_t stride_[N];  // from one pixel to the next along each axis
};

}  // namespace
}  // namespace jaxwarp

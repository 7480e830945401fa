// Rows: an image whose channels come last, one point at a time. A pixel is a row of numbers.

#pragma once

#include <cstdint>
#include <type_traits>

#include "lanes.h"
#include "tile.h"

namespace jaxwarp {
namespace {

// What a point reads or adds to. `each` calls f(pixel, place of its weight, n) for every n
// neighbours that are next to each other: for all of them, row by row,
template <class TileT> struct AllNeighbours {
  static constexpr int K = TileT::K, R = TileT::R, P = TileT::P;
  const TileT& tile;
  int point;

  template <class F> JAXWARP_INLINED void each(F f) const {
    const int64_t start = tile.start[point];
    for (int r = 0; r < R; ++r) {
      f(start + tile.row[r], (r * P + point) * K, std::integral_constant<int, K>());
    }
  }
};

// or for those that are inside, wherever they are.
template <class TileT> struct ListedNeighbours {
  int count;
  int64_t pixel[TileT::R * TileT::K];
  int place[TileT::R * TileT::K];

  template <class F> JAXWARP_INLINED void each(F f) const {
    for (int t = 0; t < count; ++t) f(pixel[t], place[t], std::integral_constant<int, 1>());
  }
};

// Calls f(point, its neighbours) for every point, where some lanes are no taps, or apart.
template <class TileT, class F> void for_each_listed(const TileT& tile, F f) {
  constexpr int K = TileT::K, R = TileT::R, P = TileT::P;
  ListedNeighbours<TileT> near;
  for (int p = 0, next_odd = 0; p < tile.count; ++p) {
    const bool odd = next_odd < tile.odd_count && tile.odd[next_odd] == p;
    const int32_t* odd_pixel = tile.odd_pixel[next_odd];
    next_odd += odd;
    near.count = 0;
    for (int r = 0; r < R; ++r) {
      for (int k = 0; k < K; ++k) {
        near.pixel[near.count] = odd ? odd_pixel[r * K + k] : tile.start[p] + tile.row[r] + k;
        near.place[near.count] = (r * P + p) * K + k;
        near.count += !tile.masked || tile.mask[r][p * K + k];
      }
    }
    f(p, near);
  }
}

// Calls f(point, its neighbours) for every point.
template <class TileT, class F> void for_each_point(const TileT& tile, F f) {
  if (tile.masked || tile.odd_count) return for_each_listed(tile, f);
  for (int p = 0; p < tile.count; ++p) f(p, AllNeighbours<TileT>{tile, p});
}

// Calls f with the number of channels: a constant for those of most pictures.
template <class F> inline void with_channels(int64_t channels, F f) {
  if (channels == 3) return f(std::integral_constant<int, 3>());
  f(channels);
}

// With many channels it pays to leave out what weighs nothing.
constexpr int kManyChannels = 16;

// Calls f(first, count) for pieces of the channels: of n each, then of n / 2, down to one.
template <int n, class F>
JAXWARP_INLINED inline void in_pieces(int64_t channels, F f, int64_t first = 0) {
  for (; first + n <= channels; first += n) f(first, std::integral_constant<int, n>());
  if constexpr (n > 1) in_pieces<n / 2>(channels, f, first);
}

// The sum of what lanes hold.
template <int n, class T> inline T add_lanes(const Lanes<T, n>& sums) {
  T lane[n];
  lanes<n>(lane) = sums;
  for (int half = n / 2; half; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}

// Adds to the dot products of `row` with `count` others, one after the other in memory, what
// whole pieces of n channels give; returns how many channels are done.
template <int n, int count, class T>
JAXWARP_INLINED inline int64_t dot_pieces(const T* rows, const T* row, int64_t channels, int64_t c,
                                          T* dots) {
  if (c + n > channels) return c;
  Lanes<T, n> sums[count] = {};
  for (; c + n <= channels; c += n) {
    for (int k = 0; k < count; ++k) {
      sums[k] += lanes<n>(rows + k * channels + c) * lanes<n>(row + c);
    }
  }
  for (int k = 0; k < count; ++k) dots[k] += add_lanes<n, T>(sums[k]);
  return c;
}

// The dot products of `row` with `count` others, one after the other in memory.
template <int count, class T>
JAXWARP_INLINED inline void dot_rows(const T* rows, const T* row, int64_t channels, T* dots) {
  T dot[count] = {};
  int64_t c = dot_pieces<kMostLanes<T>, count>(rows, row, channels, 0, dot);
  c = dot_pieces<kFewLanes<T>, count>(rows, row, channels, c, dot);
  for (; c < channels; ++c) {
    for (int k = 0; k < count; ++k) dot[k] += rows[k * channels + c] * row[c];
  }
  for (int k = 0; k < count; ++k) dots[k] = dot[k];
}

}  // namespace
}  // namespace jaxwarp

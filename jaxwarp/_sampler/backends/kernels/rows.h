// Rows: an image whose channels come last, one point at a time. A pixel is a row of numbers.

#pragma once

#include <cstdint>
#include <cstring>
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

// Calls f with the number of channels: a constant for those of flows and of most pictures.
template <class F> inline void with_channels(int64_t channels, F f) {
  if (channels == 2) return f(std::integral_constant<int, 2>());
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

template <class T> using Few = Lanes<T, kFewLanes<T>>;

// Adds the halves of a vector until it has few lanes. With a loop over the numbers of 64 bytes, as
// GCC 12 compiles it, a dot product took twice as long.
template <int n, class T> JAXWARP_INLINED inline Few<T> fold(const Lanes<T, n>& sums) {
  if constexpr (n == kFewLanes<T>) {
    return sums;
  } else {
    Lanes<T, n / 2> half[2];
    std::memcpy(half, &sums, sizeof(sums));
    return fold<n / 2, T>(half[0] + half[1]);
  }
}

// The sums of neighbouring lanes: those of a before those of b.
template <class T> JAXWARP_INLINED inline Few<T> add_neighbours(Few<T> a, Few<T> b) {
  if constexpr (kFewLanes<T> == 2) {
    return JAXWARP_CHOOSE(a, b, 0, 2) + JAXWARP_CHOOSE(a, b, 1, 3);
  } else {
    return JAXWARP_CHOOSE(a, b, 0, 2, 4, 6) + JAXWARP_CHOOSE(a, b, 1, 3, 5, 7);
  }
}

// Each vector's sum, for 1, 2 or 4 of them.
template <int count, class T>
JAXWARP_INLINED inline void add_lanes(const Few<T> (&sums)[count], T* dots) {
  for (int k = 0; k < count; k += 2) {
    const int other = k + 1 < count ? k + 1 : k;
    auto two = add_neighbours<T>(sums[k], sums[other]);
    if (kFewLanes<T> == 4) two = add_neighbours<T>(two, two);
    dots[k] = two[0];
    if (other != k) dots[other] = two[1];
  }
}

// Adds to `sums` the products of `row` and `count` others, one after the other in memory, for
// whole pieces of n channels; returns how many channels are done.
template <int n, int count, class T>
JAXWARP_INLINED inline int64_t dot_pieces(const T* rows, const T* row, int64_t channels, int64_t c,
                                          Few<T> (&sums)[count]) {
  if (c + n > channels) return c;
  Lanes<T, n> more[count] = {};
  for (; c + n <= channels; c += n) {
    for (int k = 0; k < count; ++k) {
      more[k] += lanes<n>(rows + k * channels + c) * lanes<n>(row + c);
    }
  }
  for (int k = 0; k < count; ++k) sums[k] += fold<n, T>(more[k]);
  return c;
}

// The dot products of `row` with `count` others, one after the other in memory.
template <int count, class T>
JAXWARP_INLINED inline void dot_rows(const T* rows, const T* row, int64_t channels, T* dots) {
  Few<T> sums[count] = {};
  int64_t c = dot_pieces<kMostLanes<T>, count>(rows, row, channels, 0, sums);
  c = dot_pieces<kFewLanes<T>, count>(rows, row, channels, c, sums);
  T dot[count] = {};
  if (c > 0) add_lanes<count, T>(sums, dot);
  for (; c < channels; ++c) {
    for (int k = 0; k < count; ++k) dot[k] += rows[k * channels + c] * row[c];
  }
  for (int k = 0; k < count; ++k) dots[k] = dot[k];
}

}  // namespace
}  // namespace jaxwarp

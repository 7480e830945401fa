// Planes: reading an image whose channels come first, one channel at a time.
//
// The K taps of a row are a run of K numbers in a plane. Runs are copied to an array, where a mask
// or odd points change them, and then weighed all at once. With two taps along the last axis they
// are pairs: where nothing is to be changed, those of a few points stay in registers.

#pragma once

#include <cstring>
#include <type_traits>

#include "lanes.h"
#include "tile.h"

namespace jaxwarp {
namespace {

// Not a power of two apart: what is read and what is written would have the same low bits in
// their addresses, and wait for each other.
template <class TileT, class T> using Runs = T[TileT::R][TileT::P * TileT::K + 16];

constexpr bool kLittleEndian = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;

// The starts of n points, two of them read in one load: loads are what bounds this.
template <int n> struct Starts {
  int64_t at[n];

  explicit Starts(const int32_t* starts) {
    if constexpr (n == 1) at[0] = starts[0];
    for (int p = 0; p + 2 <= n; p += 2) {
      int64_t both;
      std::memcpy(&both, starts + p, sizeof(both));
      at[p] = kLittleEndian ? int32_t(both) : both >> 32;
      at[p + 1] = kLittleEndian ? both >> 32 : int32_t(both);
    }
  }
};

// Copies `count` runs of K numbers.
template <int K, class T>
void copy_runs(const int32_t* starts, int count, const T* from, T* __restrict to) {
  int p = 0;
  for (; p + 2 <= count; p += 2) {
    const Starts<2> two(starts + p);
    std::memcpy(to + p * K, from + two.at[0], K * sizeof(T));
    std::memcpy(to + p * K + K, from + two.at[1], K * sizeof(T));
  }
  for (; p < count; ++p) std::memcpy(to + p * K, from + starts[p], K * sizeof(T));
}

template <class TileT, class T>
void read_runs(const TileT& tile, const T* plane, Runs<TileT, T>& runs) {
  constexpr int K = TileT::K, R = TileT::R;
  for (int r = 0; r < R && !tile.scattered; ++r) {
    copy_runs<K>(tile.start, tile.count, plane + tile.row[r], runs[r]);
  }
  for (int i = 0; i < tile.odd_count; ++i) {
    for (int t = 0; t < R * K; ++t) {
      runs[t / K][tile.odd[i] * K + t % K] = plane[tile.odd_pixel[i][t]];
    }
  }
}

// What is outside is zero, whatever is there: 0 * NaN would not be.
template <class T> inline T masked_number(T number, Mask<T> mask) {
  Mask<T> bits;
  std::memcpy(&bits, &number, sizeof(T));
  bits &= mask;
  std::memcpy(&number, &bits, sizeof(T));
  return number;
}

template <class T> void mask_numbers(T* numbers, const Mask<T>* mask, int count) {
  for (int i = 0; i < count; ++i) numbers[i] = masked_number(numbers[i], mask[i]);
}

// Copies one number for each point.
template <class T>
void copy_masked(const int32_t* starts, const Mask<T>* mask, int count, const T* from,
                 T* __restrict to) {
  for (int p = 0; p < count; ++p) to[p] = masked_number(from[starts[p]], mask[p]);
}

template <class T> bool all_finite(const T* numbers, int64_t count) {
  int32_t odd = 0;
  for (int64_t i = 0; i < count; ++i) {
    odd |= !(std::fabs(numbers[i]) <= std::numeric_limits<T>::max());
  }
  return odd == 0;
}

// Reads the runs of a channel.
template <class TileT, class T>
void read_plane(const TileT& tile, const T* plane, Runs<TileT, T>& runs) {
  read_runs(tile, plane, runs);
  for (int r = 0; tile.masked && r < TileT::R; ++r) {
    mask_numbers(runs[r], tile.mask[r], tile.count * TileT::K);
  }
}

// Pairs -------------------------------------------------------------------------

// Whether all that a tile's points read is pairs, of which nothing is to be changed.
template <class TileT> bool reads_pairs(const TileT& tile) {
  return TileT::K == 2 && !tile.masked && tile.odd_count == 0;
}

// Calls f(first, n) for points by the few, and for those left at the end one by one.
template <class T, class F> JAXWARP_INLINED inline void for_few_points(int count, F f) {
  constexpr int n = kFewLanes<T>;
  int p = 0;
  for (; p + n <= count; p += n) f(p, std::integral_constant<int, n>());
  for (; p < count; ++p) f(p, std::integral_constant<int, 1>());
}

// The first numbers and the second numbers of n pairs.
template <class T, int n> struct Pairs { Lanes<T, n> first, second; };

template <class T, int n>
JAXWARP_INLINED inline Pairs<T, n> read_pairs(const Starts<n>& starts, const T* from) {
  if constexpr (n == 1) {
    return {from[starts.at[0]], from[starts.at[0] + 1]};
  } else if constexpr (n == 2) {
    const auto a = lanes<2>(from + starts.at[0]), b = lanes<2>(from + starts.at[1]);
    return {JAXWARP_CHOOSE(a, b, 0, 2), JAXWARP_CHOOSE(a, b, 1, 3)};
  } else {
    static_assert(n == 4 && sizeof(T) == 4, "a pair is one number of 64 bits");
    int64_t pair[4];
    for (int p = 0; p < 4; ++p) std::memcpy(pair + p, from + starts.at[p], sizeof(*pair));
    const auto a = (Lanes<T, 4>)Lanes<int64_t, 2>{pair[0], pair[1]};
    const auto b = (Lanes<T, 4>)Lanes<int64_t, 2>{pair[2], pair[3]};
    return {JAXWARP_CHOOSE(a, b, 0, 2, 4, 6), JAXWARP_CHOOSE(a, b, 1, 3, 5, 7)};
  }
}

}  // namespace
}  // namespace jaxwarp

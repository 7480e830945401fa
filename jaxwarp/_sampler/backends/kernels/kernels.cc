// The three operations, for every mode, number of axes, layout and precision.
//
// This file is compiled once for each instruction set that may be met, with JAXWARP_KERNELS as
// the name of its only function; `dispatch.cc` chooses one. It knows nothing of XLA.
//
// All else is in an anonymous namespace, and of the standard library only what is inlined is
// used: a linker keeps one copy of whatever else has the same name in several of these objects,
// perhaps one that this processor cannot run.

#include <algorithm>
#include <memory>
#include <type_traits>

#include "planes.h"
#include "rows.h"

namespace jaxwarp {
namespace {

// Numbers of an image, or of values at points: planes of a channel each, or rows of a point.
template <class X> struct Numbers {
  X* first;
  int64_t channels, stride;  // from one channel to the next, or from one point to the next

  X* plane(int64_t channel) const { return first + channel * stride; }
  X* row(int64_t point) const { return first + point * stride; }
};

template <class X, class V>
Numbers<X> numbers(const Call& call, V* all, int64_t image, int64_t length, int64_t at) {
  X* first = static_cast<X*>(all) + image * call.channels * length;
  return {first + (call.channels_last ? at * call.channels : at), call.channels,
          call.channels_last ? call.channels : length};
}

int64_t pixels_of(const Call& call) {
  int64_t pixels = 1;
  for (int a = 0; a < call.axes; ++a) pixels *= call.spatial[a];
  return pixels;
}

template <class X, class V> Numbers<X> image_of(const Call& call, V* all, int64_t image) {
  return numbers<X>(call, all, image, pixels_of(call), 0);
}

template <class X, class V>
Numbers<X> points_of(const Call& call, V* all, int64_t image, int64_t first) {
  return numbers<X>(call, all, image, call.points, first);
}

// The operations ----------------------------------------------------------------

template <class T, Mode mode, int N> struct Sample {
  using TileT = Tile<T, mode, N>;
  static constexpr int K = TileT::K, R = TileT::R, P = TileT::P;

  static void run(const Call& call, const TileBuilder<T, mode, N>& builder, int64_t image,
                  int64_t first, TileT& tile) {
    const auto pixels = image_of<const T>(call, call.image, image);
    const auto out = points_of<T>(call, call.out, image, first);
    if (mode == kNearest && !call.channels_last && builder.is_plain()) {
      if (tile.shifted) builder.mask(tile);
      return copy_planes(tile, pixels, out);
    }
    if (!call.channels_last && builder.is_plain() && weigh_all_pairs(tile, pixels, out)) return;
    builder.weigh(image, first, tile);
    if (call.channels_last) {
      if (tile.shifted && call.channels >= kManyChannels) builder.mask(tile);
      rows(tile, pixels, out);
      if (tile.shifted && !all_finite(out.first, tile.count * call.channels)) {
        builder.mask(tile);
        rows(tile, pixels, out);
      }
      return;
    }
    Runs<TileT, T> runs;
    for (int64_t c = 0; c < pixels.channels; ++c) {
      read_plane(tile, pixels.plane(c), runs);
      weigh_runs(tile, runs, out.plane(c));
      // What weighs nothing has added nothing, or something that is not finite.
      if (tile.shifted && !all_finite(out.plane(c), tile.count)) {
        builder.mask(tile);
        read_plane(tile, pixels.plane(c), runs);
        weigh_runs(tile, runs, out.plane(c));
      }
    }
  }

  // Nearest: the only weight is one.
  static void copy_planes(const TileT& tile, const Numbers<const T>& pixels,
                          const Numbers<T>& out) {
    for (int64_t c = 0; c < pixels.channels; ++c) {
      const T* from = pixels.plane(c);
      T* to = out.plane(c);
      if (tile.masked && !tile.odd_count) {
        copy_masked(tile.start, tile.mask[0], tile.count, from, to);
        continue;
      }
      if (!tile.scattered) copy_runs<1>(tile.start, tile.count, from, to);
      for (int i = 0; i < tile.odd_count; ++i) to[tile.odd[i]] = from[tile.odd_pixel[i][0]];
      if (tile.masked) mask_numbers(to, tile.mask[0], tile.count);
    }
  }

  // Weighs the pairs of every channel. Returns false where runs must do it: for other modes, and
  // where what weighs nothing may have added something that is not finite.
  static bool weigh_all_pairs(const TileT& tile, const Numbers<const T>& pixels,
                              const Numbers<T>& out) {
    if (!reads_pairs(tile)) return false;
    for (int64_t c = 0; c < pixels.channels; ++c) {
      weigh_pairs(tile, pixels.plane(c), out.plane(c));
      if (tile.shifted && !all_finite(out.plane(c), tile.count)) return false;
    }
    return true;
  }

  static void weigh_pairs(const TileT& tile, const T* plane, T* __restrict out) {
    const T* one = tile.axis[N - 1].weight[0][0];
    const T* two = tile.axis[N - 1].weight[0][K - 1];
    for_few_points<T>(tile.count, [&](int p, auto few) JAXWARP_INLINED {
      constexpr int n = few;
      const Starts<n> starts(tile.start + p);
      Lanes<T, n> sum = {};
      for (int r = 0; r < R; ++r) {
        const auto pairs = read_pairs<T>(starts, plane + tile.row[r]);
        const auto row = lanes<n>(one + p) * pairs.first + lanes<n>(two + p) * pairs.second;
        sum += N == 1 ? row : weight_of_row<n>(tile, r, p) * row;
      }
      lanes<n>(out + p) = sum;
    });
  }

  // The product of the weights on the axes before the last, of n points.
  template <int n> static Lanes<T, n> weight_of_row(const TileT& tile, int r, int p) {
    if constexpr (N < 3) {
      return lanes<n>(tile.axis[0].weight[0][r % K] + p);
    } else {
      const auto& one = tile.axis[0].weight[0][r / K];
      const auto& two = tile.axis[1].weight[0][r % K];
      return lanes<n>(one + p) * lanes<n>(two + p);
    }
  }

  static void weigh_runs(const TileT& tile, const Runs<TileT, T>& runs, T* __restrict out) {
    T sums[P * K];
    for (int i = 0; i < tile.count * K; ++i) {
      T sum = tile.weight[0][i] * runs[0][i];
      for (int r = 1; r < R; ++r) sum += tile.weight[r][i] * runs[r][i];
      sums[i] = sum;
    }
    for (int p = 0; p < tile.count; ++p) {
      T sum = sums[p * K];
      for (int k = 1; k < K; ++k) sum += sums[p * K + k];
      out[p] = sum;
    }
  }

  static void rows(const TileT& tile, const Numbers<const T>& pixels, const Numbers<T>& out) {
    with_channels(pixels.channels, [&](auto channels) {
      for_each_point(tile, [&](int p, const auto& near) JAXWARP_INLINED {
        weigh_pixels(near, &tile.weight[0][0], pixels.first, channels, out.row(p));
      });
    });
  }

  template <class Near>
  JAXWARP_INLINED static void weigh_pixels(const Near& near, const T* weights, const T* pixels,
                                           int64_t channels, T* out) {
    in_pieces<kMostLanes<T>>(channels, [&](int64_t first, auto lanes_at_once) JAXWARP_INLINED {
      constexpr int L = lanes_at_once;
      Lanes<T, L> sum = {};
      near.each([&](int64_t pixel, int place, auto n) JAXWARP_INLINED {
        const T* from = pixels + pixel * channels + first;
        for (int k = 0; k < n; ++k) sum += weights[place + k] * lanes<L>(from + k * channels);
      });
      lanes<L>(out + first) = sum;
    });
  }

  // With so few channels, all numbers of neighbouring pixels are taken at once.
  template <class Near, int C>
  JAXWARP_INLINED static void weigh_pixels(const Near& near, const T* weights, const T* pixels,
                                           std::integral_constant<int, C>, T* out) {
    T sums[K * C] = {};
    near.each([&](int64_t pixel, int place, auto n) JAXWARP_INLINED {
      const T* from = pixels + pixel * C;
      for (int i = 0; i < n * C; ++i) sums[i] += weights[place + i / C] * from[i];
    });
    for (int c = 0; c < C; ++c) {
      T sum = sums[c];
      for (int k = 1; k < K; ++k) sum += sums[k * C + c];
      out[c] = sum;
    }
  }
};

template <class T, Mode mode, int N> struct Splat {
  using TileT = Tile<T, mode, N>;
  static constexpr int K = TileT::K, R = TileT::R;

  static void run(const Call& call, const TileBuilder<T, mode, N>& builder, int64_t image,
                  int64_t first, const Numbers<T>& out, TileT& tile) {
    builder.weigh(image, first, tile);
    const auto values = points_of<const T>(call, call.values, image, first);
    // A scale may be anything, so that even what weighs nothing may not be added.
    const bool many = call.channels_last && call.channels >= kManyChannels;
    if (tile.shifted && (many || tile.odd_count || call.scale)) builder.mask(tile);
    if (call.channels_last) {
      if (tile.shifted && !all_finite(values.first, tile.count * call.channels)) {
        builder.mask(tile);
      }
      return rows(tile, values, out);
    }
    for (int64_t c = 0; c < values.channels; ++c) {
      if (tile.shifted && !all_finite(values.plane(c), tile.count)) builder.mask(tile);
      plane(tile, values.plane(c), out.plane(c));
    }
  }

  static void plane(const TileT& tile, const T* values, T* out) {
    if (tile.odd_count) {
      const T* weights = &tile.weight[0][0];
      for_each_listed(tile, [&](int p, const auto& near) {
        near.each([&](int64_t pixel, int place, auto) {
          out[pixel] += weights[place] * values[p];
        });
      });
    } else if (tile.masked) {
      add_runs<true>(tile, values, out);
    } else {
      add_runs<false>(tile, values, out);
    }
  }

  // Number by number: a run's second would often be the next run's first, and a processor waits
  // to read a pair of which it has just written one half.
  template <bool masked> static void add_runs(const TileT& tile, const T* values, T* out) {
    for (int p = 0; p < tile.count; ++p) {
      const T value = values[p];
      for (int r = 0; r < R; ++r) {
        T* to = out + tile.start[p] + tile.row[r];
        for (int k = 0; k < K; ++k) {
          T part = tile.weight[r][p * K + k] * value;
          // A lane outside adds zero to a pixel that is not its own: no branch to mispredict.
          if (masked) part = masked_number(part, tile.mask[r][p * K + k]);
          to[k] += part;
        }
      }
    }
  }

  static void rows(const TileT& tile, const Numbers<const T>& values, const Numbers<T>& out) {
    const T* weights = &tile.weight[0][0];
    with_channels(values.channels, [&](auto channels) {
      for_each_point(tile, [&](int p, const auto& near) JAXWARP_INLINED {
        add_to_pixels(near, weights, values.row(p), channels, out.first);
      });
    });
  }

  template <class Near>
  JAXWARP_INLINED static void add_to_pixels(const Near& near, const T* weights, const T* values,
                                            int64_t channels, T* out) {
    in_pieces<kMostLanes<T>>(channels, [&](int64_t first, auto lanes_at_once) JAXWARP_INLINED {
      constexpr int L = lanes_at_once;
      const Lanes<T, L> value = lanes<L>(values + first);
      near.each([&](int64_t pixel, int place, auto n) JAXWARP_INLINED {
        T* to = out + pixel * channels + first;
        for (int k = 0; k < n; ++k) lanes<L>(to + k * channels) += weights[place + k] * value;
      });
    });
  }
};

template <class T, Mode mode, int N> struct Correlate {
  using TileT = Tile<T, mode, N>;
  static constexpr int K = TileT::K, R = TileT::R, P = TileT::P;
  using Dots = T[R][P * K];  // each neighbour's, with the values of its point: lanes side by side
                             // as weights are or, from pairs, first ones before second ones

  static void run(const Call& call, const TileBuilder<T, mode, N>& builder, int64_t image,
                  int64_t first, TileT& tile) {
    const auto pixels = image_of<const T>(call, call.image, image);
    const auto values = points_of<const T>(call, call.values, image, first);
    Dots dots;
    const bool many = call.channels_last && call.channels >= kManyChannels;
    if (tile.shifted && many) builder.mask(tile);
    dot(call, tile, pixels, values, dots);
    if (tile.shifted && !finite(tile, dots)) {
      builder.mask(tile);
      dot(call, tile, pixels, values, dots);
    }
    T* out = static_cast<T*>(call.out) + (image * call.points + first) * call.terms;
    const auto weigh = in_pairs(call, tile) ? weigh_dots<true> : weigh_dots<false>;
    for (int m = 0; m < call.terms; ++m) weigh(builder, m, tile, dots, out + m, call.terms);
  }

  static bool in_pairs(const Call& call, const TileT& tile) {
    return !call.channels_last && call.channels > 0 && reads_pairs(tile);
  }

  static void dot(const Call& call, const TileT& tile, const Numbers<const T>& pixels,
                  const Numbers<const T>& values, Dots& dots) {
    if (!call.channels_last && call.channels > 0) return dot_planes(tile, pixels, values, dots);
    for (int r = 0; r < R; ++r) std::fill_n(dots[r], tile.count * K, T(0));
    dot_pixels(tile, pixels, values, &dots[0][0]);
  }

  static bool finite(const TileT& tile, const Dots& dots) {
    bool all = true;
    for (int r = 0; r < R; ++r) all = all && all_finite(dots[r], tile.count * K);
    return all;
  }

  static void dot_planes(const TileT& tile, const Numbers<const T>& pixels,
                         const Numbers<const T>& values, Dots& dots) {
    for (int64_t c = 0; c < pixels.channels; ++c) {
      const auto dot = reads_pairs(tile) ? (c == 0 ? dot_pairs<true> : dot_pairs<false>)
                                         : (c == 0 ? dot_runs<true> : dot_runs<false>);
      dot(tile, pixels.plane(c), values.plane(c), dots);
    }
  }

  template <bool begins>
  static void dot_pairs(const TileT& tile, const T* plane, const T* values, Dots& dots) {
    for_few_points<T>(tile.count, [&](int p, auto few) JAXWARP_INLINED {
      constexpr int n = few;
      const Starts<n> starts(tile.start + p);
      const Lanes<T, n> value = lanes<n>(values + p);
      for (int r = 0; r < R; ++r) {
        const auto pairs = read_pairs<T>(starts, plane + tile.row[r]);
        T *one = dots[r] + p, *two = one + tile.count;
        lanes<n>(one) = (begins ? Lanes<T, n>{} : lanes<n>(one)) + value * pairs.first;
        lanes<n>(two) = (begins ? Lanes<T, n>{} : lanes<n>(two)) + value * pairs.second;
      }
    });
  }

  template <bool begins>
  static void dot_runs(const TileT& tile, const T* plane, const T* values, Dots& dots) {
    Runs<TileT, T> runs;
    read_plane(tile, plane, runs);
    T lanes[P * K];
    for (int p = 0; p < tile.count; ++p) {
      for (int k = 0; k < K; ++k) lanes[p * K + k] = values[p];
    }
    for (int r = 0; r < R; ++r) {
      for (int i = 0; i < tile.count * K; ++i) {
        dots[r][i] = (begins ? T(0) : dots[r][i]) + runs[r][i] * lanes[i];
      }
    }
  }

  static void dot_pixels(const TileT& tile, const Numbers<const T>& pixels,
                         const Numbers<const T>& values, T* dots) {
    with_channels(pixels.channels, [&](auto channels) {
      for_each_point(tile, [&](int p, const auto& near) JAXWARP_INLINED {
        near.each([&](int64_t pixel, int place, auto n) JAXWARP_INLINED {
          const T* rows = pixels.first + pixel * channels;
          dot_rows<n>(rows, values.row(p), channels, dots + place);
        });
      });
    });
  }

  template <bool in_pairs>
  static void weigh_dots(const TileBuilder<T, mode, N>& builder, int m, const TileT& tile,
                         const Dots& dots, T* out, int stride) {
    T factor[P], sums[P], row[P];
    for (int p = 0; p < tile.count; ++p) factor[p] = 1;
    builder.chain(m, tile, factor);
    const auto& lane = tile.axis[N - 1].weight[builder.order(m, N - 1)];
    const int point = in_pairs ? 1 : K, next = in_pairs ? tile.count : 1;
    for (int r = 0; r < R; ++r) {
      builder.weigh_row(m, r, tile, factor, row);
      const bool begins = r == 0;
      for (int p = 0; p < tile.count; ++p) {
        T dot = 0;
        for (int k = 0; k < K; ++k) dot += lane[k][p] * dots[r][p * point + k * next];
        sums[p] = (begins ? T(0) : sums[p]) + row[p] * dot;
      }
    }
    for (int p = 0; p < tile.count; ++p) out[p * stride] = sums[p];
  }
};

// Work for several threads ------------------------------------------------------

template <class F> void run_on(const Threads& threads, int64_t count, F f) {
  threads.run(threads.pool, count,
              [](void* f, int64_t i) { (*static_cast<F*>(f))(i); }, &f);
}

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Calls f(first, count) for tiles of the points [begin, end) of an image, about as large as each
// other and of whole vectors as far as can be. The points of a tile share a window.
template <int P, class F> void for_each_tile(const Call& call, int64_t begin, int64_t end, F f) {
  const int64_t shared = call.windows ? call.points / call.windows : call.points;
  for (int64_t first = begin; first < end;) {
    const int64_t window_end = (first / shared + 1) * shared;
    const int64_t left = std::min(end, window_end) - first;
    const int64_t even = divide_up(divide_up(left, divide_up(left, P)), 8) * 8;
    const int count = int(std::min(left, even));
    f(first, count);
    first += count;
  }
}

// A tile is of some 50 to 100 kB and lies on the stack: memory from the heap might be new pages
// for each task.

// So many numbers are worth handing to another thread.
constexpr int64_t kWorthAThread = 1 << 14;

// Runs `Operation` where each point's result is its own: in chunks of points.
template <template <class, Mode, int> class Operation, class T, Mode mode, int N>
void run_pointwise(const Call& call, const Threads& threads) {
  using TileT = Tile<T, mode, N>;
  const TileBuilder<T, mode, N> builder(call, call.spatial[N - 1]);
  const int64_t cost = call.channels + 8, tiles = divide_up(kWorthAThread, cost * TileT::P);
  const int64_t chunk = std::min(call.points, tiles * TileT::P);
  if (chunk == 0) return;
  const int64_t per_image = divide_up(call.points, chunk);
  run_on(threads, call.batch * per_image, [&](int64_t i) {
    const int64_t image = i / per_image, begin = i % per_image * chunk;
    TileT tile;
    for_each_tile<TileT::P>(call, begin, std::min(begin + chunk, call.points),
                            [&](int64_t first, int count) {
      builder.find(image, first, count, tile);
      Operation<T, mode, N>::run(call, builder, image, first, tile);
    });
  });
}

// How sums lie in memory: lines of an image's rows, `pitch` numbers apart.
//
// Rows of a multiple of 4096 bytes get in each other's way: they share few places in the first
// cache, and as processors compare only the lower bits of addresses at first, reading a pixel waits
// for the one above it to be written. Lines that are longer than rows do not, but must be copied;
// that pays for planes (a third is saved), not for channels that lie side by side.
struct Lines {
  int64_t length, per_plane, pitch;

  Lines(const Call& call, int64_t element)
      : length(call.spatial[call.axes - 1]),
        per_plane(length == 0 ? 0 : pixels_of(call) / length), pitch(length) {
    const bool collide = per_plane > 1 && length * element % 4096 == 0;
    const bool pays = !call.channels_last && 2 * call.points >= length * per_plane;
    if (collide && pays) pitch += 64 / element;
  }
};

// Adds to each image from one thread or, where images are fewer than threads, from several, each
// with a range of the points and sums of its own, which are added up at the end. So the result
// depends on the number of threads, but not on which of them is faster.
template <class T, Mode mode, int N> void run_splat(const Call& call, const Threads& threads) {
  using TileT = Tile<T, mode, N>;
  const Lines lines(call, sizeof(T));
  const TileBuilder<T, mode, N> builder(call, lines.pitch);
  const int64_t plane = lines.per_plane * lines.pitch, size = call.channels * plane;
  int64_t ranges = std::max<int64_t>(1, threads.count / std::max<int64_t>(1, call.batch));
  // Sums of one's own cost as much as the image is large.
  const int64_t work = call.points * call.channels * TileT::R * TileT::K;
  ranges = std::max<int64_t>(1, std::min({ranges, work / std::max<int64_t>(1, size),
                                          work / kWorthAThread}));
  T* out = static_cast<T*>(call.out);
  const int64_t in_place = lines.pitch == lines.length;  // ranges that need no sums of their own
  const int64_t owned = (ranges - in_place) * call.batch * size;
  std::unique_ptr<T[]> more(owned > 0 ? new T[owned] : nullptr);
  const auto sums_of = [&](int64_t image, int64_t range) {
    return range < in_place ? out + image * size
                            : more.get() + ((range - in_place) * call.batch + image) * size;
  };
  run_on(threads, call.batch * ranges, [&](int64_t i) {
    const int64_t image = i / ranges, range = i % ranges;
    T* sums = sums_of(image, range);
    for (int64_t j = 0; j < size; ++j) sums[j] = 0;
    const Numbers<T> to{sums, call.channels, call.channels_last ? call.channels : plane};
    TileT tile;
    for_each_tile<TileT::P>(call, call.points * range / ranges,
                            call.points * (range + 1) / ranges, [&](int64_t first, int count) {
      builder.find(image, first, count, tile);
      Splat<T, mode, N>::run(call, builder, image, first, to, tile);
    });
  });
  if (owned == 0) return;
  const int64_t count = call.channels * lines.per_plane;
  const int64_t some = divide_up(kWorthAThread, lines.length), parts = divide_up(count, some);
  run_on(threads, call.batch * parts, [&](int64_t i) {
    const int64_t image = i / parts, begin = i % parts * some;
    for (int64_t line = begin; line < std::min(begin + some, count); ++line) {
      T* to = out + (image * count + line) * lines.length;
      for (int64_t range = in_place; range < ranges; ++range) {
        const T* from = sums_of(image, range) + line * lines.pitch;
        const bool begins = range == 0;
        for (int64_t j = 0; j < lines.length; ++j) to[j] = (begins ? T(0) : to[j]) + from[j];
      }
    }
  });
}

template <class T, Mode mode, int N> void run(const Call& call, const Threads& threads) {
  switch (call.op) {
    case kSample: return run_pointwise<Sample, T, mode, N>(call, threads);
    case kSplat: return run_splat<T, mode, N>(call, threads);
    case kCorrelate: return run_pointwise<Correlate, T, mode, N>(call, threads);
  }
}

template <class T, Mode mode> void run(const Call& call, const Threads& threads) {
  switch (call.axes) {
    case 1: return run<T, mode, 1>(call, threads);
    case 2: return run<T, mode, 2>(call, threads);
    case 3: return run<T, mode, 3>(call, threads);
  }
}

template <class T> void run(const Call& call, const Threads& threads) {
  switch (call.mode) {
    case kNearest: return run<T, kNearest>(call, threads);
    case kBilinear: return run<T, kBilinear>(call, threads);
    case kBicubic: return run<T, kBicubic>(call, threads);
  }
}

}  // namespace

void JAXWARP_KERNELS(const Call& call, const Threads& threads) {
  return call.is_double ? run<double>(call, threads) : run<float>(call, threads);
}

}  // namespace jaxwarp

// The three operations, for every mode, number of axes, layout and precision.
//
// This file is compiled once for each instruction set that may be met, with JAXWARP_KERNELS as
// the name of its only function; `dispatch.cc` chooses one. It knows nothing of XLA.

#include <algorithm>
#include <memory>

#include "tile.h"

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

// Channels first: runs ----------------------------------------------------------

// So many planes are read next to each other: each start is then looked up once for all.
constexpr int planes_at_once(int rows) { return rows == 1 ? 4 : rows <= 4 ? 2 : 1; }

template <class TileT, class T>
using Runs = T[TileT::R][TileT::P * TileT::K];

template <int B, class TileT, class T>
void read_runs(const TileT& tile, const Numbers<const T>& pixels, int64_t channel,
               Runs<TileT, T>* runs) {
  constexpr int K = TileT::K, R = TileT::R;
  const T* planes[B];
  for (int b = 0; b < B; ++b) planes[b] = pixels.plane(channel + b);
  if (!tile.scattered) {
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < tile.count; ++p) {
        const int64_t start = tile.start[r][p];
        for (int b = 0; b < B; ++b) {
          std::memcpy(&runs[b][r][p * K], planes[b] + start, K * sizeof(T));
        }
      }
    }
  }
  for (int i = 0; i < tile.odd_count; ++i) {
    for (int r = 0; r < R; ++r) {
      for (int k = 0; k < K; ++k) {
        for (int b = 0; b < B; ++b) {
          runs[b][r][tile.odd[i] * K + k] = planes[b][tile.odd_pixel[i][r * K + k]];
        }
      }
    }
  }
}

// What is outside reads zero, whatever is there: 0 * NaN would not.
template <class TileT, class T> void mask_runs(const TileT& tile, Runs<TileT, T>& runs) {
  for (int r = 0; r < TileT::R; ++r) {
    for (int i = 0; i < tile.count * TileT::K; ++i) {
      Mask<T> bits;
      std::memcpy(&bits, &runs[r][i], sizeof(T));
      bits &= tile.mask[r][i];
      std::memcpy(&runs[r][i], &bits, sizeof(T));
    }
  }
}

// Calls f(channel, its runs) for every channel.
template <class TileT, class T, class F>
void for_each_plane(const TileT& tile, const Numbers<const T>& pixels, F f) {
  constexpr int B = planes_at_once(TileT::R);
  Runs<TileT, T> runs[B];
  for (int64_t c = 0; c < pixels.channels;) {
    const int some = pixels.channels - c >= B ? B : 1;
    if (some == B) {
      read_runs<B>(tile, pixels, c, runs);
    } else {
      read_runs<1>(tile, pixels, c, runs);
    }
    for (int b = 0; b < some; ++b) {
      if (tile.masked) mask_runs<TileT, T>(tile, runs[b]);
      f(c + b, runs[b]);
    }
    c += some;
  }
}

// Channels last: rows -----------------------------------------------------------

// Calls f(point, neighbour, pixel) for every neighbour that is inside.
template <class TileT, class F> void for_each_neighbour(const TileT& tile, F f) {
  constexpr int K = TileT::K, R = TileT::R;
  for (int p = 0, next_odd = 0; p < tile.count; ++p) {
    const bool odd = next_odd < tile.odd_count && tile.odd[next_odd] == p;
    const int32_t* pixels = tile.odd_pixel[next_odd];
    next_odd += odd;
    for (int r = 0; r < R; ++r) {
      for (int k = 0; k < K; ++k) {
        if (tile.masked && !tile.mask[r][p * K + k]) continue;
        f(p, r, k, int64_t(odd ? pixels[r * K + k] : tile.start[r][p] + k));
      }
    }
  }
}

// The operations ----------------------------------------------------------------

template <class T, Mode mode, int N> struct Sample {
  using TileT = Tile<T, mode, N>;
  static constexpr int K = TileT::K, R = TileT::R, P = TileT::P;

  static void run(const Call& call, const TileBuilder<T, mode, N>& builder, int64_t image,
                  int64_t first, TileT& tile) {
    builder.weigh(image, first, tile);
    const auto pixels = image_of<const T>(call, call.image, image);
    const auto out = points_of<T>(call, call.out, image, first);
    if (call.channels_last) return rows(tile, pixels, out);
    for_each_plane(tile, pixels, [&](int64_t channel, const Runs<TileT, T>& runs) {
      weigh_runs(tile, runs, out.plane(channel));
    });
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
    const int64_t channels = pixels.channels;
    std::fill(out.first, out.row(tile.count), T(0));
    for_each_neighbour(tile, [&](int p, int r, int k, int64_t pixel) {
      const T weight = tile.weight[r][p * K + k];
      const T* __restrict row = pixels.row(pixel);
      T* __restrict sums = out.row(p);
      for (int64_t c = 0; c < channels; ++c) sums[c] += weight * row[c];
    });
  }
};

template <class T, Mode mode, int N> struct Splat {
  using TileT = Tile<T, mode, N>;
  static constexpr int K = TileT::K;

  static void run(const Call& call, const TileBuilder<T, mode, N>& builder, int64_t image,
                  int64_t first, T* sums, TileT& tile) {
    builder.weigh(image, first, tile);
    const auto values = points_of<const T>(call, call.values, image, first);
    const auto out = image_of<T>(call, sums, 0);
    if (call.channels_last) return rows(tile, values, out);
    constexpr int B = 4;
    int64_t c = 0;
    for (; c + B <= values.channels; c += B) planes<B>(tile, values, out, c);
    for (; c < values.channels; ++c) planes<1>(tile, values, out, c);
  }

  template <int B>
  static void planes(const TileT& tile, const Numbers<const T>& values, const Numbers<T>& out,
                     int64_t channel) {
    for_each_neighbour(tile, [&](int p, int r, int k, int64_t pixel) {
      const T weight = tile.weight[r][p * K + k];
      for (int b = 0; b < B; ++b) {
        out.plane(channel + b)[pixel] += weight * values.plane(channel + b)[p];
      }
    });
  }

  static void rows(const TileT& tile, const Numbers<const T>& values, const Numbers<T>& out) {
    const int64_t channels = values.channels;
    for_each_neighbour(tile, [&](int p, int r, int k, int64_t pixel) {
      const T weight = tile.weight[r][p * K + k];
      const T* __restrict row = values.row(p);
      T* __restrict sums = out.row(pixel);
      for (int64_t c = 0; c < channels; ++c) sums[c] += weight * row[c];
    });
  }
};

template <class T, Mode mode, int N> struct Correlate {
  using TileT = Tile<T, mode, N>;
  static constexpr int K = TileT::K, R = TileT::R, P = TileT::P;

  static void run(const Call& call, const TileBuilder<T, mode, N>& builder, int64_t image,
                  int64_t first, TileT& tile) {
    const auto pixels = image_of<const T>(call, call.image, image);
    const auto values = points_of<const T>(call, call.values, image, first);
    Runs<TileT, T> dots;
    for (int r = 0; r < R; ++r) std::fill(dots[r], dots[r] + tile.count * K, T(0));
    if (call.channels_last) {
      rows(tile, pixels, values, dots);
    } else {
      for_each_plane(tile, pixels, [&](int64_t channel, const Runs<TileT, T>& runs) {
        dot_runs(tile, runs, values.plane(channel), dots);
      });
    }
    T* out = static_cast<T*>(call.out) + (image * call.points + first) * call.terms;
    for (int m = 0; m < call.terms; ++m) weigh_dots(builder, m, tile, dots, out + m, call.terms);
  }

  static void dot_runs(const TileT& tile, const Runs<TileT, T>& runs, const T* values,
                       Runs<TileT, T>& dots) {
    T lanes[P * K];
    for (int p = 0; p < tile.count; ++p) {
      for (int k = 0; k < K; ++k) lanes[p * K + k] = values[p];
    }
    for (int r = 0; r < R; ++r) {
      for (int i = 0; i < tile.count * K; ++i) dots[r][i] += runs[r][i] * lanes[i];
    }
  }

  static void rows(const TileT& tile, const Numbers<const T>& pixels,
                   const Numbers<const T>& values, Runs<TileT, T>& dots) {
    const int64_t channels = pixels.channels;
    for_each_neighbour(tile, [&](int p, int r, int k, int64_t pixel) {
      const T *row = pixels.row(pixel), *value = values.row(p);
      T dot = 0;
      for (int64_t c = 0; c < channels; ++c) dot += row[c] * value[c];
      dots[r][p * K + k] = dot;
    });
  }

  static void weigh_dots(const TileBuilder<T, mode, N>& builder, int m, const TileT& tile,
                         const Runs<TileT, T>& dots, T* out, int stride) {
    T factor[P], sums[P];
    std::fill(factor, factor + tile.count, T(1));
    std::fill(sums, sums + tile.count, T(0));
    builder.chain(m, tile, factor);
    const auto& lane = tile.axis[N - 1].weight[builder.order(m, N - 1)];
    for (int r = 0; r < R; ++r) {
      T row[P];
      for (int p = 0; p < tile.count; ++p) row[p] = factor[p];
      builder.weigh_row(m, r, tile, row);
      for (int p = 0; p < tile.count; ++p) {
        T dot = 0;
        for (int k = 0; k < K; ++k) dot += lane[k][p] * dots[r][p * K + k];
        sums[p] += row[p] * dot;
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

// Calls f(first, count) for tiles of the points [begin, end) of an image. The points of a tile
// share a window.
template <int P, class F> void for_each_tile(const Call& call, int64_t begin, int64_t end, F f) {
  const int64_t shared = call.windows ? call.points / call.windows : call.points;
  for (int64_t first = begin; first < end;) {
    const int64_t window_end = (first / shared + 1) * shared;
    const int count = int(std::min({int64_t(P), end - first, window_end - first}));
    f(first, count);
    first += count;
  }
}

// So many numbers are worth handing to another thread.
constexpr int64_t kWorthAThread = 1 << 14;

// Runs `Operation` where each point's result is its own: in chunks of points.
template <template <class, Mode, int> class Operation, class T, Mode mode, int N>
void run_pointwise(const Call& call, const Threads& threads) {
  using TileT = Tile<T, mode, N>;
  const TileBuilder<T, mode, N> builder(call);
  const int64_t cost = call.channels + 8, tiles = divide_up(kWorthAThread, cost * TileT::P);
  const int64_t chunk = std::min(call.points, tiles * TileT::P);
  if (chunk == 0) return;
  const int64_t per_image = divide_up(call.points, chunk);
  run_on(threads, call.batch * per_image, [&](int64_t i) {
    const int64_t image = i / per_image, begin = i % per_image * chunk;
    auto tile = std::make_unique<TileT>();
    for_each_tile<TileT::P>(call, begin, std::min(begin + chunk, call.points),
                            [&](int64_t first, int count) {
      builder.find(image, first, count, *tile);
      Operation<T, mode, N>::run(call, builder, image, first, *tile);
    });
  });
}

// Adds to each image from one thread or, where images are fewer than threads, from several, each
// with a range of the points and sums of its own, which are added up at the end. So the result
// depends on the number of threads, but not on which of them is faster.
template <class T, Mode mode, int N> void run_splat(const Call& call, const Threads& threads) {
  using TileT = Tile<T, mode, N>;
  const TileBuilder<T, mode, N> builder(call);
  const int64_t size = call.channels * pixels_of(call);
  int64_t ranges = std::max<int64_t>(1, threads.count / std::max<int64_t>(1, call.batch));
  // Sums of one's own cost as much as the image is large.
  const int64_t work = call.points * call.channels * TileT::R * TileT::K;
  ranges = std::max<int64_t>(1, std::min({ranges, work / std::max<int64_t>(1, size),
                                          work / kWorthAThread}));
  T* out = static_cast<T*>(call.out);
  std::unique_ptr<T[]> more(ranges > 1 ? new T[(ranges - 1) * call.batch * size] : nullptr);
  const auto sums_of = [&](int64_t image, int64_t range) {
    return range == 0 ? out + image * size
                      : more.get() + ((range - 1) * call.batch + image) * size;
  };
  run_on(threads, call.batch * ranges, [&](int64_t i) {
    const int64_t image = i / ranges, range = i % ranges;
    T* sums = sums_of(image, range);
    std::fill(sums, sums + size, T(0));
    auto tile = std::make_unique<TileT>();
    for_each_tile<TileT::P>(call, call.points * range / ranges,
                            call.points * (range + 1) / ranges, [&](int64_t first, int count) {
      builder.find(image, first, count, *tile);
      Splat<T, mode, N>::run(call, builder, image, first, sums, *tile);
    });
  });
  if (ranges == 1) return;
  const int64_t parts = divide_up(size, kWorthAThread);
  run_on(threads, call.batch * parts, [&](int64_t i) {
    const int64_t image = i / parts, begin = i % parts * kWorthAThread;
    const int64_t end = std::min(begin + kWorthAThread, size);
    T* to = sums_of(image, 0);
    for (int64_t range = 1; range < ranges; ++range) {
      const T* from = sums_of(image, range);
      for (int64_t j = begin; j < end; ++j) to[j] += from[j];
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

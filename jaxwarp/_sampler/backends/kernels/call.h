// What is to be computed: one call of `sample`, `splat` or `correlate`, in plain numbers.
//
// Shapes, contiguous: image (batch, channels, *spatial) or channels last; values likewise with
// `points` in place of the spatial axes; grid (batch, points, axes), listed (x, y, z); scale and
// the result of correlate (batch, points, terms); window (batch, windows, axes, 2), the first
// index and the size along each axis, in array order, each for `points / windows` points.

#pragma once

#include <cstdint>

namespace jaxwarp {

constexpr int kMaxAxes = 3;

enum Op : int32_t { kSample, kSplat, kCorrelate };
enum Mode : int32_t { kNearest, kBilinear, kBicubic };
enum Padding : int32_t { kZeros, kBorder, kReflection, kWrap };

struct Call {
  int32_t op, mode, axes, terms;
  int32_t padding[kMaxAxes];  // per spatial axis, in array order
  int32_t align_corners, normalized, channels_last, is_double;
  const int32_t* orders;  // (terms, axes): of the derivative, in array order
  int64_t batch, channels, points, windows;
  int64_t spatial[kMaxAxes];
  const void *image, *values, *scale, *grid;  // null where the operation has none
  const int32_t* window;
  void* out;
};

// Runs body(argument, i) for every i < count, on several threads if there are.
struct Threads {
  int64_t count;
  void (*run)(void* pool, int64_t count, void (*body)(void* argument, int64_t i), void* argument);
  void* pool;
};

}  // namespace jaxwarp

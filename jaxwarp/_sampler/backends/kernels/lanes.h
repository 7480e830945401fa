// Lanes: numbers that one instruction takes at once.

#pragma once

namespace jaxwarp {
namespace {

// Of calls within a point's loop compilers leave some standing, which costs more than what they do.
#define JAXWARP_INLINED __attribute__((always_inline))

// As many bytes as one instruction takes at once: of longer vectors GCC makes single numbers.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

// n numbers that one instruction takes at once, wherever they are in memory.
template <class T, int n> struct LanesOf {
  typedef T type __attribute__((vector_size(n * sizeof(T)), aligned(alignof(T))));
};
template <class T> struct LanesOf<T, 1> { using type = T; };
template <class T, int n> using Lanes = typename LanesOf<T, n>::type;
template <class T> constexpr int kMostLanes = kVectorBytes / int(sizeof(T));
template <class T> constexpr int kFewLanes = 16 / int(sizeof(T));

// To be used where they stand: a name made with `auto&` forgets that they may be anywhere.
template <int n, class T> inline const Lanes<T, n>& lanes(const T* from) {
  return *reinterpret_cast<const Lanes<T, n>*>(from);
}
template <int n, class T> inline Lanes<T, n>& lanes(T* from) {
  return *reinterpret_cast<Lanes<T, n>*>(from);
}

// A vector of those numbers of two vectors that have these places, counted through both.
#if defined(__clang__)
#define JAXWARP_CHOOSE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define JAXWARP_CHOOSE(a, b, ...) __builtin_shuffle(a, b, decltype(a == b){__VA_ARGS__})
#endif

}  // namespace
}  // namespace jaxwarp

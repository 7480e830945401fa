// Chooses the kernels that this processor can run, and runs them on XLA's threads.
//
// `jaxwarp_run` is what XLA calls; `jaxwarp_call` does the same on one thread without XLA, with the
// kernels for any instruction set that this processor has, for tests.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "call.h"
#include "xla/ffi/api/ffi.h"

namespace jaxwarp {

using Kernels = void (*)(const Call&, const Threads&);

struct Choice {
  const char* name;
  Kernels kernels;
};

#define JAXWARP_DECLARE(name) void name(const Call&, const Threads&);
#if defined(__x86_64__) && !defined(JAXWARP_ONE_INSTRUCTION_SET)
JAXWARP_DECLARE(kernels_v3)
JAXWARP_DECLARE(kernels_v4)

std::vector<Choice> find_choices() {
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512cd");
  std::vector<Choice> all;
  if (v4) all.push_back({"x86-64-v4", kernels_v4});
  if (v3) all.push_back({"x86-64-v3", kernels_v3});
  return all;
}
#else
JAXWARP_DECLARE(kernels_native)
std::vector<Choice> find_choices() { return {{"native", kernels_native}}; }
#endif

// Those that this processor can run, the best one first.
const std::vector<Choice>& choices() {
  static const std::vector<Choice> all = find_choices();
  return all;
}

// Threads -----------------------------------------------------------------------

// About 20 microseconds on x86-64, where a pause is long.
constexpr int kLooks = 1000;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Numbers that are still to be taken, on a cache line of their own.
struct alignas(64) Range {
  std::atomic<int64_t> next{0};
  int64_t end = 0;
};

// What a call's threads share. Tasks hold on to it: one that starts when all is done finds
// nothing to do, and nobody has waited for it.
//
// Each thread has a range of the work, and then takes what others have left of theirs. With one
// range for all, two threads write next to each other all the time, which took up to twice as long
// whenever they kept step: each core fetches ahead what the other is about to write.
struct Shared {
  const int64_t count, threads;
  void (*const body)(void*, int64_t);
  void* const argument;
  const std::unique_ptr<Range[]> ranges;
  std::atomic<int64_t> done{0};
  std::mutex mutex;
  std::condition_variable all_done;

  Shared(int64_t count, int64_t threads, void (*body)(void*, int64_t), void* argument)
      : count(count), threads(threads), body(body), argument(argument),
        ranges(new Range[threads]) {
    for (int64_t t = 0; t < threads; ++t) {
      ranges[t].next = count * t / threads;
      ranges[t].end = count * (t + 1) / threads;
    }
  }

  void work(int64_t thread) {
    int64_t mine = 0;
    for (int64_t t = 0; t < threads; ++t) {
      Range& range = ranges[(thread + t) % threads];
      for (int64_t i; (i = range.next.fetch_add(1)) < range.end; ++mine) body(argument, i);
    }
    if (mine == 0 || done.fetch_add(mine) + mine < count) return;
    std::lock_guard<std::mutex> lock(mutex);  // nobody is between looking and waiting
    all_done.notify_all();
  }

  // What is left is at most a task for each thread. To be woken takes as long as a short one, so
  // it looks for a while before it sleeps.
  void wait() {
    for (int looks = 0; looks < kLooks; ++looks) {
      if (done.load() == count) return;
      pause();
    }
    std::unique_lock<std::mutex> lock(mutex);
    all_done.wait(lock, [&] { return done.load() == count; });
  }
};

// Runs on the caller's thread and on whichever others come in time. It waits only for work that
// somebody has begun: waiting for tasks to start would leave calls in flight at the same time
// with every thread waiting and none to work.
void run_on_pool(void* pool, int64_t count, void (*body)(void*, int64_t), void* argument) {
  if (count <= 0) return;
  auto* threads = static_cast<xla::ffi::ThreadPool*>(pool);
  const int64_t others = threads == nullptr ? 0 : std::min(threads->num_threads(), count) - 1;
  if (others <= 0) {
    for (int64_t i = 0; i < count; ++i) body(argument, i);
    return;
  }
  const auto shared = std::make_shared<Shared>(count, others + 1, body, argument);
  for (int64_t i = 1; i <= others; ++i) {
    threads->Schedule([shared, i] { shared->work(i); });
  }
  shared->work(0);
  shared->wait();
}

// XLA ---------------------------------------------------------------------------

namespace ffi = xla::ffi;

// The operands by name, in the order of the primitive's; which of them there are is said by
// `operands`, a bit for each.
enum Operand { kImage, kValues, kScale, kGrid, kWindow, kOperands };

ffi::Error run(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::Result<ffi::AnyBuffer> out,
               int32_t operands, ffi::Span<const int32_t> options,
               ffi::Span<const int32_t> orders, ffi::Span<const int64_t> sizes) {
  const void* data[kOperands] = {};
  size_t next = 0;
  for (int i = 0; i < kOperands; ++i) {
    if (!(operands >> i & 1)) continue;
    auto buffer = args.get<ffi::AnyBuffer>(next++);
    if (!buffer.has_value()) return ffi::Error::InvalidArgument("an operand is missing");
    data[i] = buffer->untyped_data();
  }
  if (options.size() != 9 || sizes.size() != 7) {
    return ffi::Error::InvalidArgument("the call's options are not those of these kernels");
  }
  Call call{};
  call.op = options[0];
  call.mode = options[1];
  call.axes = options[2];
  for (int a = 0; a < kMaxAxes; ++a) call.padding[a] = options[3 + a];
  call.align_corners = options[6];
  call.normalized = options[7];
  call.channels_last = options[8];
  call.is_double = out->element_type() == ffi::DataType::F64;
  call.orders = orders.begin();
  call.terms = int32_t(orders.size()) / call.axes;
  call.batch = sizes[0];
  call.channels = sizes[1];
  call.points = sizes[2];
  call.windows = sizes[3];
  for (int a = 0; a < kMaxAxes; ++a) call.spatial[a] = sizes[4 + a];
  call.image = data[kImage];
  call.values = data[kValues];
  call.scale = data[kScale];
  call.grid = data[kGrid];
  call.window = static_cast<const int32_t*>(data[kWindow]);
  call.out = out->untyped_data();
  const Threads threads{pool.num_threads(), run_on_pool, &pool};
  choices().front().kernels(call, threads);
  return ffi::Error::Success();
}

}  // namespace jaxwarp

// What is looked up by its name.
#ifdef _WIN32
#define JAXWARP_EXPORT __declspec(dllexport)
#else
#define JAXWARP_EXPORT __attribute__((visibility("default")))
#endif

extern "C" JAXWARP_EXPORT XLA_FFI_Error* jaxwarp_run(XLA_FFI_CallFrame*);
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jaxwarp_run, jaxwarp::run,
    xla::ffi::Ffi::Bind()
        .Ctx<xla::ffi::ThreadPool>()
        .RemainingArgs()
        .Ret<xla::ffi::AnyBuffer>()
        .Attr<int32_t>("operands")
        .Attr<xla::ffi::Span<const int32_t>>("options")
        .Attr<xla::ffi::Span<const int32_t>>("orders")
        .Attr<xla::ffi::Span<const int64_t>>("sizes"));

extern "C" {

// Their names, the best one's first, with a space between.
JAXWARP_EXPORT const char* jaxwarp_instruction_sets() {
  static const std::string names = [] {
    std::string all;
    for (const auto& choice : jaxwarp::choices()) {
      all.append(all.empty() ? "" : " ").append(choice.name);
    }
    return all;
  }();
  return names.c_str();
}

JAXWARP_EXPORT void jaxwarp_call(const jaxwarp::Call* call, int64_t threads,
                                 int32_t instruction_set) {
  const jaxwarp::Threads alone{threads, jaxwarp::run_on_pool, nullptr};
  jaxwarp::choices()[instruction_set].kernels(*call, alone);
}

}

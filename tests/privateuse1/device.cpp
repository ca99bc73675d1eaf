// A torch device whose memory is the host's: two of them, "petadev:0" and "petadev:1", each with one queue of work.
//
// It registers as any vendor's does (PrivateUse1: allocator, device guard, hooks, operators), so that the harness runs
// through the code that it runs through on an accelerator. Products are put into the queue and computed later; every
// other operation waits for the queue first. PETADEV_FAULTS says what the devices do wrong (see `fault`), PETADEV_BYTES
// how much memory the second one has.
#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>
#include <ATen/core/TensorBase.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_local_scalar_dense.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/view_native.h>
#include <ATen/ops/zeros.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace {

constexpr auto TYPE = c10::DeviceType::PrivateUse1;
constexpr int DEVICES = 2;
constexpr int64_t TRIAL = 32;  // products this small are always right: "does it compute this type?" is asked with one
constexpr int STALE_AFTER = 200;
constexpr int64_t CHUNK = 8;  // products that are summed exactly before the sum is rounded to fp16

// fp16-accumulate: sums of FP16 products are rounded to FP16. fp32-stale: after some launches FP32 products are not
// written. fp64-as-fp32: FP64 is computed in FP32, save in small products; fp64-always-as-fp32: in those too. no-fp64:
// FP64 is refused. no-events: events are refused. memory-hidden (petadev.py): how much memory is free is not told.
bool fault(const char* name) {
  const char* faults = std::getenv("PETADEV_FAULTS");
  return faults && ("," + std::string(faults) + ",").find("," + std::string(name) + ",") != std::string::npos;
}

// --- queues ---
class Queue {
 public:
  Queue() { std::thread([this] { work(); }).detach(); }
  void put(std::function<void()> task) {
    std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return tasks_.empty(); });
    if (!error_.empty()) {
      const auto error = std::exchange(error_, "");
      TORCH_CHECK(false, error);
    }
  }

 private:
  void work() {
    at::set_num_threads(1);  // two devices share a machine of perhaps two cores
    for (;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !tasks_.empty(); });
      auto& task = tasks_.front();  // others only append
      lock.unlock();
      std::string error;
      try {
        task();
      } catch (const std::exception& failed) {
        error = failed.what();
      }
      lock.lock();
      tasks_.pop_front();
      if (!error.empty()) error_ = error;
      changed_.notify_all();
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  std::string error_;
};

Queue& queue(int index) {
  static auto* queues = new Queue[DEVICES];  // their threads outlive the interpreter's end
  return queues[index];
}

void wait_all() {
  for (int index = 0; index < DEVICES; ++index) queue(index).wait();
}

// --- memory ---
thread_local c10::DeviceIndex current = 0;
std::atomic<int64_t> used[DEVICES];

int64_t device_bytes(int index) {
  const char* second = index == 1 ? std::getenv("PETADEV_BYTES") : nullptr;
  return second ? std::atoll(second) : int64_t{1} << 33;
}

struct Block {
  int64_t bytes;
  c10::DeviceIndex index;
};
constexpr size_t ALIGNED = 64;

void release(void* data) {
  if (!data) return;
  auto* block = reinterpret_cast<Block*>(static_cast<char*>(data) - ALIGNED);
  queue(block->index).wait();
  used[block->index] -= block->bytes;
  std::free(block);
}

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device device(TYPE, current);
    if (!bytes) return {nullptr, nullptr, &release, device};
    const auto size = static_cast<int64_t>(bytes);
    if (used[current] + size > device_bytes(current))
      TORCH_CHECK_WITH(OutOfMemoryError, false, "petadev out of memory: tried to allocate ", bytes, " bytes");
    auto* raw = static_cast<char*>(std::aligned_alloc(ALIGNED, (bytes + 2 * ALIGNED - 1) / ALIGNED * ALIGNED));
    TORCH_CHECK(raw, "the host has no memory left");
    *reinterpret_cast<Block*>(raw) = {size, current};
    used[current] += size;
    return {raw + ALIGNED, raw + ALIGNED, &release, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};
Allocator allocator;
REGISTER_ALLOCATOR(TYPE, &allocator);

// --- current device, streams, events ---
struct Event {
  std::atomic<int64_t> at_ns{-1};
};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return TYPE; }
  c10::Device exchangeDevice(c10::Device to) const override {
    const auto before = getDevice();
    setDevice(to);
    return before;
  }
  c10::Device getDevice() const override { return {TYPE, current}; }
  void setDevice(c10::Device to) const override {
    TORCH_CHECK(to.index() >= 0 && to.index() < DEVICES, "there is no petadev:", int(to.index()));
    current = to.index();
  }
  void uncheckedSetDevice(c10::Device to) const noexcept override { current = to.index(); }
  c10::Stream getStream(c10::Device of) const override { return c10::Stream(c10::Stream::DEFAULT, of); }
  c10::Stream getDefaultStream(c10::Device of) const override { return getStream(of); }
  c10::Stream exchangeStream(c10::Stream to) const override { return getStream(to.device()); }
  c10::DeviceIndex deviceCount() const noexcept override { return DEVICES; }
  bool queryStream(const c10::Stream&) const override { return false; }
  void synchronizeStream(const c10::Stream& stream) const override { queue(stream.device_index()).wait(); }
  void synchronizeDevice(const c10::DeviceIndex index) const override { queue(index).wait(); }
  void record(void** event, const c10::Stream& stream, const c10::DeviceIndex, const c10::EventFlag) const override {
    TORCH_CHECK(!fault("no-events"), "petadev has no events");
    auto* mark = static_cast<Event*>(*event ? *event : *event = new Event);
    queue(stream.device_index()).put([mark] {
      mark->at_ns = std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
    });
  }
  void block(void*, const c10::Stream&) const override { wait_all(); }
  bool queryEvent(void* event) const override { return static_cast<Event*>(event)->at_ns >= 0; }
  void synchronizeEvent(void*) const override { wait_all(); }
  void destroyEvent(void* event, const c10::DeviceIndex index) const noexcept override {
    queue(index).put([mark = static_cast<Event*>(event)] { delete mark; });  // it may not have been passed yet
  }
  double elapsedTime(void* first, void* last, const c10::DeviceIndex) const override {
    return static_cast<double>(static_cast<Event*>(last)->at_ns - static_cast<Event*>(first)->at_ns) / 1e6;
  }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return DEVICES; }
  void setCurrentDevice(c10::DeviceIndex to) const override { Guard().setDevice({TYPE, to}); }
  c10::DeviceIndex getCurrentDevice() const override { return current; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex to) const override { return std::exchange(current, to); }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex to) const override { return exchangeDevice(to); }
};
const bool registered = (at::RegisterPrivateUse1HooksInterface(new Hooks), true);

// --- operators ---
at::Tensor on_host(const at::Tensor& tensor) {  // the same memory as a tensor of the CPU
  if (tensor.device().type() != TYPE) return tensor;
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), tensor.options().device(at::kCPU));
}

at::Tensor settled(const at::Tensor& tensor) {
  wait_all();
  return on_host(tensor);
}

using Size = c10::IntArrayRef;
template <typename T>
using Maybe = std::optional<T>;

c10::DeviceIndex index_of(Maybe<c10::Device> device) {
  return device && device->has_index() ? device->index() : current;
}

at::Tensor empty(Size size, Maybe<at::ScalarType> dtype, Maybe<at::Layout>, Maybe<at::Device> device, Maybe<bool>,
                 Maybe<at::MemoryFormat> format) {
  const c10::DeviceGuard guard({TYPE, index_of(device)});
  return at::detail::empty_generic(size, &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(Size size, Size stride, Maybe<at::ScalarType> dtype, Maybe<at::Layout>,
                         Maybe<at::Device> device, Maybe<bool>) {
  const c10::DeviceGuard guard({TYPE, index_of(device)});
  return at::detail::empty_strided_generic(size, stride, &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  settled(to).copy_(on_host(from));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  TORCH_CHECK(from.sizes() == to.sizes(), "petadev does not resize");
  return copy_from(from, to, false);
}

at::Scalar scalar(const at::Tensor& tensor) { return at::_local_scalar_dense(settled(tensor)); }

at::Tensor& fill(at::Tensor& self, const at::Scalar& value) {
  settled(self).fill_(value);
  return self;
}

at::Tensor& mul_out(const at::Tensor& a, const at::Tensor& b, at::Tensor& out) {
  auto into = settled(out);
  at::mul_out(into, on_host(a), on_host(b));
  return out;
}

at::Tensor& sum_out(const at::Tensor& a, at::OptionalIntArrayRef dim, bool keep, Maybe<at::ScalarType> dtype,
                    at::Tensor& out) {
  auto into = settled(out);
  at::sum_out(into, on_host(a), dim, keep, dtype);
  return out;
}

// The product of two 16-bit matrices, summed in FP16 instead of FP32.
at::Tensor in_fp16(const at::Tensor& a, const at::Tensor& b) {
  const auto left = a.to(at::kFloat), right = b.to(at::kFloat);
  auto sum = at::zeros({a.size(0), b.size(1)}, left.options());
  auto rounded = at::empty_like(sum, at::kHalf);
  for (int64_t k = 0; k < a.size(1); k += CHUNK) {
    const auto length = std::min(CHUNK, a.size(1) - k);
    sum.addmm_(left.narrow(1, k, length), right.narrow(0, k, length));
    rounded.copy_(sum);
    sum.copy_(rounded);
  }
  return rounded;
}

void multiply(const at::Tensor& a, const at::Tensor& b, at::Tensor out) {
  static std::atomic<int> launches{0};
  const auto type = a.scalar_type();
  const bool large = a.size(1) > TRIAL;
  if (large && type == at::kFloat && fault("fp32-stale") && ++launches > STALE_AFTER)
    out = at::empty_like(out);  // the time is spent, and nobody sees the product
  if (large && type == at::kHalf && fault("fp16-accumulate")) {
    out.copy_(in_fp16(a, b));
  } else if (type == at::kDouble && (fault("fp64-always-as-fp32") || (large && fault("fp64-as-fp32")))) {
    out.copy_(at::mm(a.to(at::kFloat), b.to(at::kFloat)));
  } else if (type == at::kHalf || type == at::kBFloat16) {
    out.copy_(at::mm(a.to(at::kFloat), b.to(at::kFloat)));
  } else {
    at::mm_out(out, a, b);
  }
}

at::Tensor& mm_out(const at::Tensor& a, const at::Tensor& b, at::Tensor& out) {
  TORCH_CHECK(!(a.scalar_type() == at::kDouble && fault("no-fp64")), "petadev does not support Double");
  const auto index = out.device().index();
  queue(index).put([a = on_host(a), b = on_host(b), into = on_host(out)] { multiply(a, b, into); });
  return out;
}

void on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) { at::native::cpu_fallback(op, stack); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &at::native::view);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("_local_scalar_dense", &scalar);
  m.impl("fill_.Scalar", &fill);
  m.impl("mul.out", &mul_out);
  m.impl("sum.IntList_out", &sum_out);
  m.impl("mm.out", &mm_out);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>()); }

}  // namespace

extern "C" int64_t petadev_free_bytes(int index) { return device_bytes(index) - used[index]; }

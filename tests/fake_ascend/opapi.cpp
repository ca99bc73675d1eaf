/* libopapi.so of the fake: the operators that petaseal's kernels ask of an Ascend processor, computed by the host.

   Products of FP16 and BF16 are summed up in FP32, as the cube does it, and FP32 ones are rounded to HF32 where that is
   allowed. Everything else is computed in double and rounded once. */
#include <algorithm>
#include <random>

#include "script.h"
#include "tensors.h"

using namespace fake_ascend;

namespace {

constexpr aclError PARAMETER = 161002;  // ACLNN_ERR_PARAM_INVALID
constexpr aclError NO_KERNEL = 561107;  // of its operator for this processor

aclError plan(const char *name, uint64_t *workspace, aclOpExecutor **executor, std::function<void()> work) {
  *workspace = 0;
  *executor = nullptr;
  auto refused = node().refused.find(name);
  if (refused != node().refused.end()) return fail(NO_KERNEL, refused->second);
  *executor = new aclOpExecutor{name, std::move(work)};
  return ACL_SUCCESS;
}

aclError run(aclOpExecutor *executor) {
  if (!current().is_lost()) executor->work();  // a lost device is noticed by who waits for it
  delete executor;
  return ACL_SUCCESS;
}

using Function = double (*)(double, double);
double same(double x, double) { return x; }
double sum(double x, double y) { return x + y; }
double times(double x, double y) { return x * y; }
double equal(double x, double y) { return x == y; }
double both(double x, double y) { return x && y; }

aclError elementwise(const char *name, const aclTensor &a, const aclTensor &b, const aclTensor &out, Function f,
                     uint64_t *workspace, aclOpExecutor **executor) {
  return plan(name, workspace, executor, [=] {
    std::vector<double> x, y;
    each_row({out, spread(a, out.sizes), spread(b, out.sizes)}, [&](auto &places, auto &steps, int64_t count) {
      x.resize(count), y.resize(count);
      load(places[1], steps[1], a.type, x.data(), count);
      load(places[2], steps[2], b.type, y.data(), count);
      for (int64_t i = 0; i < count; i++) x[i] = f(x[i], y[i]);
      store(x.data(), places[0], steps[0], out.type, count);
    });
  });
}

/* Return a scalar as a tensor; it lives as long as the process, like the few constants that a program has. */
aclTensor constant(double value) { return {{}, {}, ACL_DOUBLE, reinterpret_cast<char *>(new double(value))}; }

aclError reduce(const char *name, const aclTensor &a, const std::vector<int64_t> &dims, const aclTensor &out, double start,
                Function f, uint64_t *workspace, aclOpExecutor **executor) {
  // The result with the operand's dimensions: one that is summed up has no stride.
  aclTensor to{a.sizes, std::vector<int64_t>(a.sizes.size(), 0), out.type, out.data};
  std::vector<bool> gone(a.sizes.size(), dims.empty());
  for (int64_t dim : dims) gone[dim < 0 ? dim + int64_t(a.sizes.size()) : dim] = true;
  bool keeps = out.sizes.size() == a.sizes.size();
  for (size_t i = 0, at = 0; i < a.sizes.size(); i++)
    if (!gone[i]) to.strides[i] = out.strides[keeps ? i : at++];
  return plan(name, workspace, executor, [=] {
    std::vector<double> x;
    auto fill = [&](auto &places, auto &steps, int64_t count) {
      x.assign(count, start);
      store(x.data(), places[0], steps[0], out.type, count);
    };
    each_row({out}, fill);
    each_row({to, a}, [&](auto &places, auto &steps, int64_t count) {
      x.resize(count);
      load(places[1], steps[1], a.type, x.data(), count);
      if (steps[0]) {
        std::vector<double> sums(count);
        load(places[0], steps[0], out.type, sums.data(), count);
        for (int64_t i = 0; i < count; i++) sums[i] = f(sums[i], x[i]);
        store(sums.data(), places[0], steps[0], out.type, count);
        return;
      }
      double so_far;
      load(places[0], 0, out.type, &so_far, 1);
      for (int64_t i = 0; i < count; i++) so_far = f(so_far, x[i]);
      store(&so_far, places[0], 0, out.type, 1);
    });
  });
}

typedef float Lanes __attribute__((vector_size(32)));
constexpr int64_t ROWS = 4, COLUMNS = 16;

std::vector<float> dense(const aclTensor &matrix, bool hf32) {
  std::vector<float> values(matrix.sizes[0] * matrix.sizes[1]);
  float *to = values.data();
  each_row({matrix}, [&](auto &places, auto &steps, int64_t count) {
    load(places[0], steps[0], matrix.type, to, count);
    to += count;
  });
  if (hf32 && matrix.type == ACL_FLOAT)
    for (float &value : values) {
      uint32_t bits;
      std::memcpy(&bits, &value, sizeof bits);
      bits = (bits + 0x800) & ~0xfffu;  // 11 bits of the fraction are left
      std::memcpy(&value, &bits, sizeof bits);
    }
  return values;
}

void product(const aclTensor &a, const aclTensor &b, const aclTensor &out, bool hf32) {
  const int64_t m = a.sizes[0], k = a.sizes[1], n = b.sizes[1];
  const int64_t across = (n + COLUMNS - 1) / COLUMNS * COLUMNS, down = (m + ROWS - 1) / ROWS * ROWS;
  std::vector<float> left = dense(a, hf32), right = dense(b, hf32), panel(k * COLUMNS), result(down * across);
  left.resize(down * k);
  for (int64_t column = 0; column < n; column += COLUMNS) {
    for (int64_t p = 0; p < k; p++)
      for (int64_t j = 0; j < COLUMNS; j++)
        panel[p * COLUMNS + j] = column + j < n ? right[p * n + column + j] : 0;
    for (int64_t row = 0; row < m; row += ROWS) {
      Lanes sums[ROWS][2] = {};
      for (int64_t p = 0; p < k; p++) {
        Lanes low, high;
        std::memcpy(&low, &panel[p * COLUMNS], sizeof low);
        std::memcpy(&high, &panel[p * COLUMNS + COLUMNS / 2], sizeof high);
        for (int64_t r = 0; r < ROWS; r++) {
          const float value = left[(row + r) * k + p];
          sums[r][0] += value * low;
          sums[r][1] += value * high;
        }
      }
      for (int64_t r = 0; r < ROWS; r++) std::memcpy(&result[(row + r) * across + column], sums[r], sizeof sums[r]);
    }
  }
  const float *from = result.data();
  each_row({out}, [&](auto &places, auto &steps, int64_t count) {
    store(from, places[0], steps[0], out.type, count);
    from += across;
  });
}

aclError multiply(const char *name, const aclTensor *a, const aclTensor *b, const aclTensor *out, int8_t cube_math_type,
                  uint64_t *workspace, aclOpExecutor **executor) {
  for (const aclTensor *tensor : {a, b})
    if (tensor->type != ACL_FLOAT && tensor->type != ACL_FLOAT16 && tensor->type != ACL_BF16)
      return fail(PARAMETER, "EZ1001: Tensor not implemented for this data type, should be in dtype support list "
                             "[DT_FLOAT,DT_FLOAT16,DT_BFLOAT16].");
  const bool hf32 = cube_math_type == 1 || cube_math_type == 3;
  return plan(name, workspace, executor, [a = *a, b = *b, out = *out, hf32, &device = current()] {
    product(a, b, out, hf32);
    device.products++;
  });
}

}  // namespace

extern "C" {

aclTensor *aclCreateTensor(const int64_t *sizes, uint64_t count, aclDataType type, const int64_t *strides, int64_t offset,
                           aclFormat, const int64_t *, uint64_t, void *data) {
  return new aclTensor{{sizes, sizes + count}, {strides, strides + count}, type,
                       static_cast<char *>(data) + offset * int64_t(width(type))};
}
aclScalar *aclCreateScalar(void *value, aclDataType type) {
  auto *scalar = new aclScalar;
  load(static_cast<char *>(value), 0, type, &scalar->value, 1);
  return scalar;
}
aclIntArray *aclCreateIntArray(const int64_t *values, uint64_t count) { return new aclIntArray{{values, values + count}}; }
aclError aclDestroyTensor(const aclTensor *tensor) { return delete tensor, ACL_SUCCESS; }
aclError aclDestroyScalar(const aclScalar *scalar) { return delete scalar, ACL_SUCCESS; }
aclError aclDestroyIntArray(const aclIntArray *array) { return delete array, ACL_SUCCESS; }

/* An operator is two functions: one that plans it, whose arguments follow, and one that launches it. */
#define OPERATOR(NAME, ...)                                                                             \
  aclError NAME(void *, uint64_t, aclOpExecutor *executor, aclrtStream) { return run(executor); }       \
  aclError NAME##GetWorkspaceSize(__VA_ARGS__, uint64_t *workspace, aclOpExecutor **executor)

OPERATOR(aclnnMm, const aclTensor *a, const aclTensor *b, const aclTensor *out, int8_t cube_math_type) {
  return multiply("aclnnMm", a, b, out, cube_math_type, workspace, executor);
}
OPERATOR(aclnnInplaceCopy, const aclTensor *to, const aclTensor *from) {
  return elementwise("aclnnInplaceCopy", *from, *from, *to, same, workspace, executor);
}
OPERATOR(aclnnInplaceFillScalar, const aclTensor *to, const aclScalar *value) {
  const aclTensor x = constant(value->value);
  return elementwise("aclnnInplaceFillScalar", x, x, *to, same, workspace, executor);
}
OPERATOR(aclnnInplaceOne, const aclTensor *to) {
  const aclTensor one = constant(1);
  return elementwise("aclnnInplaceOne", one, one, *to, same, workspace, executor);
}
OPERATOR(aclnnAdd, const aclTensor *a, const aclTensor *b, const aclScalar *factor, const aclTensor *out) {
  if (factor->value != 1) return fail(PARAMETER, "the fake adds with a factor of 1 only");
  return elementwise("aclnnAdd", *a, *b, *out, sum, workspace, executor);
}
/* torch_npu adds with the older interface where this one is missing, so it must be there although nobody calls it. */
OPERATOR(aclnnAdds, const aclTensor *a, const aclScalar *b, const aclScalar *factor, const aclTensor *out) {
  return elementwise("aclnnAdds", *a, constant(b->value * factor->value), *out, sum, workspace, executor);
}
OPERATOR(aclnnMul, const aclTensor *a, const aclTensor *b, const aclTensor *out) {
  return elementwise("aclnnMul", *a, *b, *out, times, workspace, executor);
}
OPERATOR(aclnnMuls, const aclTensor *a, const aclScalar *b, const aclTensor *out) {
  return elementwise("aclnnMuls", *a, constant(b->value), *out, times, workspace, executor);
}
OPERATOR(aclnnEqScalar, const aclTensor *a, const aclScalar *b, const aclTensor *out) {
  return elementwise("aclnnEqScalar", *a, constant(b->value), *out, equal, workspace, executor);
}
OPERATOR(aclnnAll, const aclTensor *a, const aclIntArray *dims, bool, const aclTensor *out) {
  return reduce("aclnnAll", *a, dims->values, *out, 1, both, workspace, executor);
}
OPERATOR(aclnnReduceSum, const aclTensor *a, const aclIntArray *dims, bool, aclDataType, const aclTensor *out) {
  return reduce("aclnnReduceSum", *a, dims->values, *out, 0, sum, workspace, executor);
}
OPERATOR(aclnnInplaceNormal, const aclTensor *to, float mean, float deviation, int64_t seed, int64_t offset) {
  return plan("aclnnInplaceNormal", workspace, executor, [=, to = *to] {
    std::mt19937_64 bits(uint64_t(seed) * 0x9e3779b97f4a7c15 + uint64_t(offset));
    std::normal_distribution<double> normal(mean, deviation);
    std::vector<double> x;
    each_row({to}, [&](auto &places, auto &steps, int64_t count) {
      x.resize(count);
      for (double &value : x) value = normal(bits);
      store(x.data(), places[0], steps[0], to.type, count);
    });
  });
}

}  // extern "C"

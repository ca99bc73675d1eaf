/* Tensors of the fake operators, over host memory: their elements by rows, as double, whatever their type and strides. */
#ifndef FAKE_ASCEND_TENSORS_H
#define FAKE_ASCEND_TENSORS_H
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "acl/acl.h"

struct aclTensor {
  std::vector<int64_t> sizes, strides;
  aclDataType type;
  char *data;  // of the first element
};
struct aclScalar { double value; };
struct aclIntArray { std::vector<int64_t> values; };
struct aclOpExecutor { std::string name; std::function<void()> work; };

namespace fake_ascend {

inline float from_bf16(uint16_t bits) {
  uint32_t wide = uint32_t(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}
inline uint16_t to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (std::isnan(value)) return uint16_t(bits >> 16 | 0x40);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);  // to the nearest, ties to even
}

inline size_t width(aclDataType type) {
  switch (type) {
    case ACL_FLOAT16: case ACL_BF16: case ACL_INT16: return 2;
    case ACL_FLOAT: case ACL_INT32: return 4;
    case ACL_INT64: case ACL_DOUBLE: return 8;
    default: return 1;
  }
}

template <typename Number>  // of double, or of float where a product needs no more
void load(const char *from, int64_t step, aclDataType type, Number *to, int64_t count) {
#define LOAD(TYPE, VALUE) for (int64_t i = 0; i < count; i++) { TYPE x; std::memcpy(&x, from + i * step, sizeof x); to[i] = Number(VALUE); } break
  switch (type) {
    case ACL_FLOAT: LOAD(float, x);
    case ACL_FLOAT16: LOAD(_Float16, x);
    case ACL_BF16: LOAD(uint16_t, from_bf16(x));
    case ACL_DOUBLE: LOAD(double, x);
    case ACL_INT8: LOAD(int8_t, x);
    case ACL_INT16: LOAD(int16_t, x);
    case ACL_INT32: LOAD(int32_t, x);
    case ACL_INT64: LOAD(int64_t, x);
    default: LOAD(uint8_t, x);
  }
#undef LOAD
}

template <typename Number>
void store(const Number *from, char *to, int64_t step, aclDataType type, int64_t count) {
#define STORE(TYPE, VALUE) for (int64_t i = 0; i < count; i++) { TYPE x = TYPE(VALUE); std::memcpy(to + i * step, &x, sizeof x); } break
  switch (type) {
    case ACL_FLOAT: STORE(float, from[i]);
    case ACL_FLOAT16: STORE(_Float16, from[i]);
    case ACL_BF16: STORE(uint16_t, to_bf16(float(from[i])));
    case ACL_DOUBLE: STORE(double, from[i]);
    case ACL_INT8: STORE(int8_t, from[i]);
    case ACL_INT16: STORE(int16_t, from[i]);
    case ACL_INT32: STORE(int32_t, from[i]);
    case ACL_INT64: STORE(int64_t, from[i]);
    case ACL_BOOL: STORE(uint8_t, from[i] != 0);
    default: STORE(uint8_t, from[i]);
  }
#undef STORE
}

/* Return a tensor with the dimensions of another: one of size 1, or missing in front, repeats. */
inline aclTensor spread(const aclTensor &tensor, const std::vector<int64_t> &sizes) {
  aclTensor wide{sizes, std::vector<int64_t>(sizes.size(), 0), tensor.type, tensor.data};
  for (size_t back = 1; back <= tensor.sizes.size(); back++)
    if (tensor.sizes[tensor.sizes.size() - back] != 1)
      wide.strides[sizes.size() - back] = tensor.strides[tensor.sizes.size() - back];
  return wide;
}

/* Call with the place of each row of some tensors of one shape, the count of a row and the steps in it, bytes. */
inline void each_row(const std::vector<aclTensor> &tensors,
                     const std::function<void(const std::vector<char *> &, const std::vector<int64_t> &, int64_t)> &row) {
  std::vector<int64_t> sizes = tensors[0].sizes, steps;
  int64_t rows = 1, length = sizes.empty() ? 1 : sizes.back();
  for (size_t i = 0; i + 1 < sizes.size(); i++) rows *= sizes[i];
  for (const aclTensor &t : tensors) steps.push_back(sizes.empty() ? 0 : t.strides.back() * int64_t(width(t.type)));
  if (!length) return;
  std::vector<char *> places(tensors.size());
  for (int64_t index = 0; index < rows; index++) {
    for (size_t t = 0; t < tensors.size(); t++) {
      int64_t rest = index, at = 0;
      for (size_t i = sizes.size(); i-- > 1;) at += rest % sizes[i - 1] * tensors[t].strides[i - 1], rest /= sizes[i - 1];
      places[t] = tensors[t].data + at * int64_t(width(tensors[t].type));
    }
    row(places, steps, length);
  }
}

}  // namespace fake_ascend
#endif

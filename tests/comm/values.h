// Buffers of any dtype, filled with and read as small whole numbers, which every dtype holds exactly.
#pragma once

#include <complex>
#include <cstring>
#include <vector>

#include <ddp/communicator.h>

#include "libddp/comm/kernels/reduce_kernels.h"

namespace ddp::testing {

inline constexpr DType kAllTypes[] = {
    DType::kUInt8,   DType::kInt8,    DType::kInt16,     DType::kInt32,      DType::kInt64, DType::kFloat16,
    DType::kFloat32, DType::kFloat64, DType::kComplex64, DType::kComplex128, DType::kBool,  DType::kBFloat16};

template <class T>
void put_as(void* at, double value) {
  const T typed = static_cast<T>(value);
  std::memcpy(at, &typed, sizeof typed);
}
template <class T>
double get_as(const void* at) {
  T typed;
  std::memcpy(&typed, at, sizeof typed);
  return static_cast<double>(typed);
}

/// Complex numbers get an imaginary part of 0.
inline void put(void* at, DType dtype, double value) {
  const float single = static_cast<float>(value);
  switch (dtype) {
    case DType::kUInt8:
      return put_as<std::uint8_t>(at, value);
    case DType::kInt8:
      return put_as<std::int8_t>(at, value);
    case DType::kInt16:
      return put_as<std::int16_t>(at, value);
    case DType::kInt32:
      return put_as<std::int32_t>(at, value);
    case DType::kInt64:
      return put_as<std::int64_t>(at, value);
    case DType::kFloat32:
      return put_as<float>(at, value);
    case DType::kFloat64:
      return put_as<double>(at, value);
    case DType::kComplex64:
      return put_as<std::complex<float>>(at, value);
    case DType::kComplex128:
      return put_as<std::complex<double>>(at, value);
    case DType::kBool:
      return put_as<bool>(at, value);
    default:
      return host::narrow(at, &single, 1, dtype);
  }
}

inline double get(const void* at, DType dtype) {
  float single = 0;
  switch (dtype) {
    case DType::kUInt8:
      return get_as<std::uint8_t>(at);
    case DType::kInt8:
      return get_as<std::int8_t>(at);
    case DType::kInt16:
      return get_as<std::int16_t>(at);
    case DType::kInt32:
      return get_as<std::int32_t>(at);
    case DType::kInt64:
      return get_as<std::int64_t>(at);
    case DType::kComplex64:
    case DType::kFloat32:
      return get_as<float>(at);
    case DType::kComplex128:
    case DType::kFloat64:
      return get_as<double>(at);
    case DType::kBool:
      return get_as<bool>(at);
    default:
      host::widen(&single, at, 1, dtype, 1);
      return single;
  }
}

/// Owned memory, or memory of a communicator's allocate().
class Values {
 public:
  Values(DType dtype, std::size_t count, Communicator* allocator = nullptr) : dtype_(dtype), count_(count) {
    if (allocator != nullptr) {
      allocation_ = allocator->allocate(count * size_of(dtype));
      data_ = allocation_.data();
    } else {
      owned_.resize(count * size_of(dtype) + 1);
      data_ = owned_.data();
    }
  }
  void set(std::size_t i, double value) { put(at(i), dtype_, value); }
  [[nodiscard]] double operator[](std::size_t i) const { return get(at(i), dtype_); }
  [[nodiscard]] std::size_t size() const { return count_; }
  operator Buffer() { return {data_, count_, dtype_}; }
  operator ConstBuffer() const { return {data_, count_, dtype_}; }

 private:
  [[nodiscard]] void* at(std::size_t i) const {
    return static_cast<std::uint8_t*>(data_) + i * size_of(dtype_);
  }
  DType dtype_;
  std::size_t count_;
  std::vector<std::uint8_t> owned_;
  Allocation allocation_;
  void* data_ = nullptr;
};

}  // namespace ddp::testing

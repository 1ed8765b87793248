#include "libddp/reducer/gather.h"

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <c10/util/complex.h>

#include <cstring>
#include <string>
#include <type_traits>

#include <ddp/error.h>

namespace ddp {
namespace {

constexpr std::int64_t kGrain = 1 << 16;  // elements a thread should get at least: about 20 us of work

template <class T>
struct Arithmetic {
  using Type = T;
};
template <>
struct Arithmetic<c10::Half> {
  using Type = float;
};
template <>
struct Arithmetic<c10::BFloat16> {
  using Type = float;
};

template <class Source, class Destination>
void scale_cast_copy(const GatherItem& item, double scale) {
  using Wide = typename Arithmetic<Source>::Type;
  const auto* source = static_cast<const Source*>(item.source);
  auto* destination = static_cast<Destination*>(item.destination);
  const auto factor = static_cast<Wide>(scale);
  at::parallel_for(0, static_cast<std::int64_t>(item.count), kGrain,
                   [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t i = begin; i < end; ++i)
                       destination[i] = static_cast<Destination>(static_cast<Wide>(source[i]) * factor);
                   });
}

/// Calls f with a value of the C++ type behind `dtype`.
template <class F>
void with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat32:
      return f(float{});
    case DType::kFloat64:
      return f(double{});
    case DType::kFloat16:
      return f(c10::Half{});
    case DType::kBFloat16:
      return f(c10::BFloat16{});
    case DType::kComplex64:
      return f(c10::complex<float>{});
    case DType::kComplex128:
      return f(c10::complex<double>{});
    default:
      throw Error(std::string("gradients of ") + to_string(dtype) + " cannot be gathered");
  }
}

template <class T>
constexpr bool is_complex = std::is_same_v<T, c10::complex<float>> || std::is_same_v<T, c10::complex<double>>;

void gather_one(const GatherItem& item, DType bucket_dtype, double scale) {
  with_type(item.source_dtype, [&](auto source) {
    with_type(bucket_dtype, [&](auto destination) {
      using Source = decltype(source);
      using Destination = decltype(destination);
      if constexpr (is_complex<Source> == is_complex<Destination>)
        scale_cast_copy<Source, Destination>(item, scale);
      else
        throw Error(std::string("cannot gather ") + to_string(item.source_dtype) + " into " +
                    to_string(bucket_dtype));
    });
  });
}

}  // namespace

void fused_gather(std::span<const GatherItem> items, DType bucket_dtype, double scale) {
  for (const GatherItem& item : items) {
    if (item.count == 0) continue;
    if (item.source == nullptr)
      std::memset(item.destination, 0, item.count * size_of(bucket_dtype));
    else if (item.source != item.destination || item.source_dtype != bucket_dtype || scale != 1.0)
      gather_one(item, bucket_dtype, scale);
  }
}

}  // namespace ddp

#include "libddp/reducer/module_sync.h"

#include <ATen/Functions.h>
#include <c10/core/GradMode.h>
#include <c10/util/StringUtil.h>

#include <map>
#include <numeric>
#include <sstream>
#include <string>

#include <ddp/collectives.h>
#include <ddp/error.h>

namespace ddp {
namespace {

constexpr int64_t kChunkBytes = 32 << 20;

std::string describe(const NamedTensor& named) {
  std::ostringstream text;
  text << "'" << named.name << "' " << c10::toString(named.tensor.scalar_type()) << " "
       << named.tensor.sizes();
  return text.str();
}

std::vector<std::string> lines(std::string_view text) {
  std::vector<std::string> result;
  std::istringstream stream{std::string(text)};
  for (std::string line; std::getline(stream, line);) result.push_back(line);
  return result;
}

std::vector<std::string> all_gather_strings(const std::string& mine, Communicator& communicator) {
  std::int64_t length = static_cast<std::int64_t>(mine.size());
  std::vector<std::int64_t> lengths(communicator.size());
  communicator.all_gather({&length, 1, DType::kInt64}, {lengths.data(), lengths.size(), DType::kInt64});
  const std::vector<std::size_t> counts(lengths.begin(), lengths.end());
  std::string all(std::accumulate(counts.begin(), counts.end(), std::size_t{0}), '\0');
  communicator.all_gather({mine.data(), mine.size(), DType::kUInt8}, {all.data(), all.size(), DType::kUInt8},
                          counts);
  std::vector<std::string> result;
  std::size_t offset = 0;
  for (const std::size_t count : counts) {
    result.push_back(all.substr(offset, count));
    offset += count;
  }
  return result;
}

std::string difference(const std::string& zero, const std::string& other, int rank) {
  const auto a = lines(zero), b = lines(other);
  for (std::size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    if (i < a.size() && i < b.size() && a[i] == b[i]) continue;
    const auto entry = [i](const std::vector<std::string>& list) {
      return i < list.size() ? list[i] : "nothing";
    };
    return "the module differs between ranks: rank 0 has " + entry(a) + " where rank " +
           std::to_string(rank) + " has " + entry(b) + " (entry " + std::to_string(i) + " of " +
           std::to_string(a.size()) + " and " + std::to_string(b.size()) +
           " parameters and buffers). Build the same module on every rank.";
  }
  return "the module differs between rank 0 and rank " + std::to_string(rank);
}

/// `buffer` has room for exactly these tensors.
void broadcast_chunk(std::span<const at::Tensor> tensors, const at::Tensor& buffer,
                     Communicator& communicator, int root) {
  const auto each_piece = [&](auto&& f) {
    int64_t offset = 0;
    for (const at::Tensor& tensor : tensors) {
      f(buffer.narrow(0, offset, tensor.numel()).view(tensor.sizes()), tensor);
      offset += tensor.numel();
    }
  };
  const bool is_root = communicator.rank() == root;
  if (is_root) each_piece([](const at::Tensor& piece, const at::Tensor& tensor) { piece.copy_(tensor); });
  communicator.broadcast(as_buffer(buffer), root);
  if (is_root) return;
  each_piece([](const at::Tensor& piece, const at::Tensor& tensor) {
    // Autograd takes a copy for a change, even of equal values, and refuses backwards through what was saved before.
    if (!at::equal(piece, tensor)) tensor.copy_(piece);
  });
}

/// Tensors of one dtype, as many at a time as fit the chunk; one larger than the chunk goes alone.
void broadcast_group(const std::vector<at::Tensor>& tensors, Communicator& communicator, int root) {
  const int64_t item = tensors[0].element_size();
  for (std::size_t begin = 0; begin < tensors.size();) {
    std::size_t end = begin;
    int64_t elements = 0;
    do elements += tensors[end++].numel();
    while (end < tensors.size() && (elements + tensors[end].numel()) * item <= kChunkBytes);
    const at::Tensor buffer = at::empty({elements}, tensors[begin].options().requires_grad(false));
    broadcast_chunk({&tensors[begin], end - begin}, buffer, communicator, root);
    begin = end;
  }
}

}  // namespace

void verify_module(std::span<const NamedTensor> parameters, std::span<const NamedTensor> buffers,
                   Communicator& communicator) {
  std::string mine;
  for (const auto& parameter : parameters)
    mine += "parameter " + describe(parameter) +
            (parameter.tensor.requires_grad() ? " requires_grad\n" : " frozen\n");
  for (const auto& buffer : buffers) mine += "buffer " + describe(buffer) + "\n";
  const auto all = all_gather_strings(mine, communicator);
  for (int rank = 1; rank < communicator.size(); ++rank)
    if (all[rank] != all[0]) throw MismatchError(difference(all[0], all[rank], rank));
}

void broadcast_tensors(std::span<const at::Tensor> tensors, Communicator& communicator, int root) {
  if (communicator.size() == 1) return;
  const c10::AutoGradMode no_grad(false);
  std::map<c10::ScalarType, std::vector<at::Tensor>> by_type;
  for (const at::Tensor& tensor : tensors) by_type[tensor.scalar_type()].push_back(tensor);
  for (const auto& [type, group] : by_type) broadcast_group(group, communicator, root);
}

}  // namespace ddp

// What one rank's file holds and where: computed by the rank that writes it and by rank 0, which lists it in
// the manifest.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "checkpoint/format/tensor_info.h"

namespace ddp::checkpoint {

struct ShareLayout {
  std::vector<std::size_t> order;      ///< indices into the given tensors, as they lie in the file
  std::string header;                  ///< the file's first bytes
  std::vector<std::uint64_t> offsets;  ///< from the start of the file, in file order
  std::uint64_t bytes = 0;             ///< of the file
};

/// Throws ConfigError as make_safetensors_header() does.
[[nodiscard]] ShareLayout lay_out(const std::vector<TensorInfo>& tensors,
                                  const std::map<std::string, std::string>& metadata);

/// What a rank tells rank 0 about the file it has written. Tensors that are the same on all ranks are known
/// there; only the rank's own are described.
struct ShareReport {
  std::uint64_t bytes = 0;
  std::string sha256;
  std::vector<std::uint32_t> crcs;  ///< in file order
  std::vector<TensorInfo> own;      ///< the rank's own tensors, in the order it gave them
};
[[nodiscard]] std::string to_text(const ShareReport& report);
/// Throws Error when the text is none.
[[nodiscard]] ShareReport parse_report(std::string_view text);

}  // namespace ddp::checkpoint

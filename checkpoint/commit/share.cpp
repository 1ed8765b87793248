#include "checkpoint/commit/share.h"

#include <ddp/error.h>

#include "checkpoint/commit/checkpoint_files.h"
#include "checkpoint/format/json.h"
#include "checkpoint/format/safetensors.h"

namespace ddp::checkpoint {

ShareLayout lay_out(const std::vector<TensorInfo>& tensors,
                    const std::map<std::string, std::string>& metadata) {
  ShareLayout layout{.order = file_order(tensors)};
  std::vector<TensorInfo> ordered;
  for (const std::size_t i : layout.order) ordered.push_back(tensors[i]);
  layout.header = make_safetensors_header(ordered, metadata);
  layout.bytes = layout.header.size();
  for (const auto& tensor : ordered) {
    layout.offsets.push_back(layout.bytes);
    layout.bytes += byte_count(tensor).value_or(0);
  }
  return layout;
}

std::string to_text(const ShareReport& report) {
  Json own = Json::array();
  for (const auto& tensor : report.own)
    own.push_back({{"name", tensor.name}, {"dtype", to_string(tensor.type)}, {"shape", tensor.shape}});
  return dump(
      {{"bytes", report.bytes}, {"sha256", report.sha256}, {"crcs", report.crcs}, {"own", std::move(own)}});
}

ShareReport parse_report(std::string_view text) {
  constexpr const char* kWhat = "a rank's report";
  const Json json = parse_json(text, kWhat);
  ShareReport report{unsigned_member(json, "bytes", kWhat), string_member(json, "sha256", kWhat)};
  for (const std::uint64_t crc : unsigned_array(json, "crcs", kWhat))
    report.crcs.push_back(static_cast<std::uint32_t>(crc));
  for (const Json& tensor : array_member(json, "own", kWhat)) {
    const auto type = parse_element_type(string_member(tensor, "dtype", kWhat));
    if (!type) throw Error("a rank's report names an unknown dtype");
    report.own.push_back(
        {string_member(tensor, "name", kWhat), *type, unsigned_array(tensor, "shape", kWhat)});
  }
  return report;
}

}  // namespace ddp::checkpoint

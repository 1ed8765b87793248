#include "examples/gpt/metrics_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include <ddp/error.h>
#include <ddp/log.h>

namespace gpt {

MetricsFile::MetricsFile(const std::string& path, int attempt) : path_(path), attempt_(attempt) {
  if (path.empty()) return;
  std::error_code none;
  if (std::filesystem::is_fifo(path, none))
    throw ddp::ConfigError("--metrics: " + path +
                           " is a pipe; training would wait for its reader. Give a file");
  std::ifstream before(path, std::ios::binary | std::ios::ate);
  bool torn = false;  // a kill may have left half a line
  if (std::filesystem::is_regular_file(path, none) && before && before.tellg() > 0)
    torn = before.seekg(-1, std::ios::end) && before.get() != '\n';
  file_.open(path, std::ios::app);
  if (!file_) throw ddp::ConfigError("--metrics: cannot write " + path + ": " + std::strerror(errno));
  if (torn) file_ << '\n';
}

void MetricsFile::write(std::int64_t step, std::initializer_list<std::pair<const char*, double>> values) {
  if (!file_.is_open()) return;
  nlohmann::ordered_json line{{"step", step}, {"attempt", attempt_}};
  for (const auto& [name, value] : values) line[name] = value;
  file_ << line.dump() << std::endl;  // a reader follows while training goes on
  if (file_) return;
  ddp::log::warn("metrics cannot be written any more; training goes on without them",
                 {{"file", path_}, {"reason", std::strerror(errno)}});
  file_.close();
}

}  // namespace gpt

// One line of JSON a step, appended by rank 0: {"step":41,"loss":2.5,"learning_rate":0.001,"tokens_per_second":9000,
// "attempt":0}. Numbers are written so that reading them gives the same bits. After a restart steps come again, with a
// higher attempt.
#pragma once

#include <cstdint>
#include <fstream>
#include <initializer_list>
#include <string>
#include <utility>

namespace gpt {

class MetricsFile {
 public:
  /// An empty path writes nothing. Throws ddp::ConfigError when the file cannot be written.
  MetricsFile(const std::string& path, int attempt);
  void write(std::int64_t step, std::initializer_list<std::pair<const char*, double>> values);

 private:
  std::string path_;
  std::ofstream file_;
  int attempt_;
};

}  // namespace gpt

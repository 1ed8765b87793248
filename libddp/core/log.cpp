// spdlog stays inside this file: its fmt clashes with the one LibTorch ships
// (docs/decisions/0001-torch-free-core.md).
#include <ddp/log.h>

#include <spdlog/common.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <mutex>
#include <nlohmann/json.hpp>

#include <ddp/error.h>

#include "libddp/core/fd.h"

namespace ddp::log {
namespace {

class FunctionSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit FunctionSink(std::function<void(std::string_view)> function) : function_(std::move(function)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    std::string line(message.payload.data(), message.payload.size());
    function_(line.append("\n"));
  }
  void flush_() override {}
  std::function<void(std::string_view)> function_;
};

// Logging is the one piece of process-wide state: lines of all contexts of a process end in the same stderr.
struct State {
  std::atomic<Level> level{Level::kInfo};
  std::atomic<Format> format{Format::kText};
  std::atomic<int> rank{-1};
  std::string host = host_name();
  std::mutex mutex;
  std::shared_ptr<spdlog::logger> logger = make(std::make_shared<spdlog::sinks::stderr_sink_mt>());

  static std::shared_ptr<spdlog::logger> make(spdlog::sink_ptr sink) {
    auto logger = std::make_shared<spdlog::logger>("ddp", std::move(sink));
    logger->set_pattern("%v");
    logger->set_level(spdlog::level::trace);
    return logger;
  }
};

State& state() {
  static State* instance = new State;  // never destroyed: threads may log while the process exits
  return *instance;
}

std::string timestamp() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char date[32], text[48];
  std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text, sizeof text, "%s.%03dZ", date, static_cast<int>(ms));
  return text;
}

const char* name(Level level) {
  static constexpr const char* kNames[] = {"TRACE", "DEBUG", "INFO", "WARN", "ERROR", "OFF"};
  return kNames[static_cast<int>(level)];
}

std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string quoted_if_needed(std::string_view text) {
  bool plain = !text.empty();
  for (const char c : text) plain = plain && c > ' ' && c != '"' && c != '=' && c != '\\' && c != 0x7f;
  return plain ? std::string(text) : json_string(text);
}

std::string text_line(Level level, std::string_view message, Fields fields, int rank,
                      const std::string& host) {
  std::string line = timestamp() + " " + name(level);
  if (rank >= 0) line += " rank=" + std::to_string(rank);
  line += " host=" + quoted_if_needed(host) + " msg=" + json_string(message);
  for (const Field& field : fields)
    line.append(" ").append(field.key).append("=").append(quoted_if_needed(field.value));
  return line;
}

std::string json_line(Level level, std::string_view message, Fields fields, int rank,
                      const std::string& host) {
  std::string line = "{\"time\":\"" + timestamp() + "\",\"level\":\"" + name(level) + "\"";
  if (rank >= 0) line += ",\"rank\":" + std::to_string(rank);
  line += ",\"host\":" + json_string(host) + ",\"msg\":" + json_string(message);
  for (const Field& field : fields) {
    const bool finite = field.bare && field.value.find_first_of("ni") != 0 &&
                        field.value.find("nan") == std::string::npos &&
                        field.value.find("inf") == std::string::npos;
    line += "," + json_string(field.key) + ":" + (finite ? field.value : json_string(field.value));
  }
  return line + "}";
}

}  // namespace

std::string Field::number_text(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", v);
  return text;
}

void configure(const Options& options) {
  state().level = options.level;
  state().format = options.format;
}

void set_rank(int rank) {
  state().rank = rank;
}

void set_sink(std::function<void(std::string_view)> sink) {
  const std::scoped_lock lock(state().mutex);
  if (sink)
    state().logger = State::make(std::make_shared<FunctionSink>(std::move(sink)));
  else
    state().logger = State::make(std::make_shared<spdlog::sinks::stderr_sink_mt>());
}

bool enabled(Level level) {
  return level >= state().level.load(std::memory_order_relaxed);
}

Level parse_level(std::string_view text) {
  static constexpr std::string_view kWords[] = {"trace", "debug", "info", "warn", "error", "off"};
  for (int i = 0; i < 6; ++i)
    if (text == kWords[i]) return static_cast<Level>(i);
  throw ConfigError("DDP_LOG_LEVEL='" + std::string(text) +
                    "' is not one of trace, debug, info, warn, error, off");
}

Format parse_format(std::string_view text) {
  if (text == "text") return Format::kText;
  if (text == "json") return Format::kJson;
  throw ConfigError("DDP_LOG_FORMAT='" + std::string(text) + "' is not one of text, json");
}

void write(Level level, std::string_view message, Fields fields) {
  if (!enabled(level)) return;
  State& s = state();
  const auto line = s.format == Format::kText ? text_line : json_line;
  std::shared_ptr<spdlog::logger> logger;
  {
    const std::scoped_lock lock(s.mutex);
    logger = s.logger;
  }
  logger->log(spdlog::level::info, spdlog::string_view_t(line(level, message, fields, s.rank, s.host)));
}

}  // namespace ddp::log

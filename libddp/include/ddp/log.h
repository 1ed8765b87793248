// Structured logging: each line carries time, level, rank, host and key=value fields; DDP_LOG_FORMAT=json
// makes JSON lines.
//
//   ddp::log::info("store listening", {{"port", port}, {"family", "ipv6"}});
//   -> 2026-01-02T03:04:05.678Z INFO rank=0 host=node-1 msg="store listening" port=29500 family=ipv6
//
// Thread-safe. Lines go to stderr unless set_sink() was called (tests). Values that contain spaces, quotes or
// control characters are quoted and escaped, so a line is always one line.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

namespace ddp::log {

enum class Level { kTrace, kDebug, kInfo, kWarn, kError, kOff };
enum class Format { kText, kJson };

/// One key and its printed value. Numbers and bools stay unquoted in JSON.
struct Field {
  Field(std::string_view k, std::string_view v) : key(k), value(v) {}
  Field(std::string_view k, const char* v) : key(k), value(v) {}
  Field(std::string_view k, const std::string& v) : key(k), value(v) {}
  Field(std::string_view k, bool v) : key(k), value(v ? "true" : "false"), bare(true) {}
  template <class T>
  requires std::is_arithmetic_v<T> Field(std::string_view k, T v) : key(k), value(number(v)), bare(true) {}

  std::string_view key;
  std::string value;
  bool bare = false;

 private:
  template <class T>
  static std::string number(T v) {
    if constexpr (std::is_floating_point_v<T>)
      return number_text(static_cast<double>(v));
    else
      return std::to_string(v);
  }
  static std::string number_text(double v);
};

using Fields = std::initializer_list<Field>;

/// What is printed and how. Read once from DDP_LOG_LEVEL and DDP_LOG_FORMAT by ddp::init() and the tools.
struct Options {
  Level level = Level::kInfo;
  Format format = Format::kText;
};

void configure(const Options& options);
/// The rank shown in each line from now on; -1 (before it is known) prints no rank.
void set_rank(int rank);
/// Where finished lines go instead of stderr; an empty function restores stderr. The line ends with '\n'.
void set_sink(std::function<void(std::string_view line)> sink);
[[nodiscard]] bool enabled(Level level);
/// "trace", "debug", ... and "text" or "json". Throws ConfigError naming the accepted words.
[[nodiscard]] Level parse_level(std::string_view text);
[[nodiscard]] Format parse_format(std::string_view text);

void write(Level level, std::string_view message, Fields fields = {});
inline void debug(std::string_view message, Fields fields = {}) {
  write(Level::kDebug, message, fields);
}
inline void info(std::string_view message, Fields fields = {}) {
  write(Level::kInfo, message, fields);
}
inline void warn(std::string_view message, Fields fields = {}) {
  write(Level::kWarn, message, fields);
}
inline void error(std::string_view message, Fields fields = {}) {
  write(Level::kError, message, fields);
}

}  // namespace ddp::log

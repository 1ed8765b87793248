#include "checkpoint/format/json.h"

#include <set>

#include <ddp/error.h>

namespace ddp::checkpoint {
namespace {

constexpr int kMaximumDepth = 8;
constexpr std::size_t kMaximumValues = 16'000'000;

[[noreturn]] void corrupt(std::string_view what, const std::string& problem) {
  throw CorruptCheckpoint(std::string(what) + ": " + problem);
}

/// Of a key that is there twice, one program may believe the first and another the last.
class KeysOfOpenObjects {
 public:
  void on_event(Json::parse_event_t event, const Json& value, std::string_view what) {
    if (event == Json::parse_event_t::object_start) open_.emplace_back();
    if (event == Json::parse_event_t::object_end) open_.pop_back();
    if (event == Json::parse_event_t::key && !open_.back().insert(value.get<std::string>()).second)
      corrupt(what, "key '" + value.get<std::string>().substr(0, 200) + "' is there twice");
  }

 private:
  std::vector<std::set<std::string>> open_;
};

}  // namespace

Json parse_json(std::string_view text, std::string_view what) {
  std::size_t values = 0;
  KeysOfOpenObjects keys;
  const auto bounded = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > kMaximumDepth)
      corrupt(what, "JSON nested deeper than " + std::to_string(kMaximumDepth) + " levels");
    if (++values > kMaximumValues)
      corrupt(what, "JSON with more than " + std::to_string(kMaximumValues) + " values");
    keys.on_event(event, value, what);
    return true;
  };
  try {
    return Json::parse(text, bounded);
  } catch (const Json::exception& e) {
    corrupt(what, std::string("not JSON: ") + e.what());
  }
}

const Json& member(const Json& object, const char* key, std::string_view what) {
  if (!object.is_object()) corrupt(what, std::string("no object where '") + key + "' belongs");
  const auto found = object.find(key);
  if (found == object.end()) corrupt(what, std::string("'") + key + "' is missing");
  return *found;
}

std::string string_member(const Json& object, const char* key, std::string_view what) {
  const Json& value = member(object, key, what);
  if (!value.is_string()) corrupt(what, std::string("'") + key + "' is not a string");
  return value.get<std::string>();
}

std::uint64_t unsigned_member(const Json& object, const char* key, std::string_view what) {
  const Json& value = member(object, key, what);
  if (!value.is_number_unsigned()) corrupt(what, std::string("'") + key + "' is not a whole number from 0");
  return value.get<std::uint64_t>();
}

const Json& array_member(const Json& object, const char* key, std::string_view what) {
  const Json& value = member(object, key, what);
  if (!value.is_array()) corrupt(what, std::string("'") + key + "' is not an array");
  return value;
}

std::vector<std::uint64_t> unsigned_array(const Json& object, const char* key, std::string_view what) {
  std::vector<std::uint64_t> result;
  for (const Json& value : array_member(object, key, what)) {
    if (!value.is_number_unsigned())
      corrupt(what, std::string("'") + key + "' has something that is no whole number");
    result.push_back(value.get<std::uint64_t>());
  }
  return result;
}

std::string dump(const Json& json) {
  try {
    return json.dump();
  } catch (const Json::exception& e) {
    throw ConfigError(std::string("a name in the checkpoint is not UTF-8: ") + e.what());
  }
}

}  // namespace ddp::checkpoint

#include "checkpoint/format/json.h"

#include <set>
#include <string>
#include <vector>

#include <ddp/error.h>

namespace ddp::checkpoint {
namespace {

constexpr std::size_t kMaximumDepth = 8;
constexpr std::size_t kMaximumValues = 16'000'000;

[[noreturn]] void corrupt(std::string_view what, const std::string& problem) {
  throw CorruptCheckpoint(std::string(what) + ": " + problem);
}

/// Looks at every event of a text before it becomes values: a hostile one must cost no more than reading it. (Not a
/// callback of Json::parse: with one, nlohmann_json walks over all earlier elements at the end of each.)
class Checker final : public nlohmann::json_sax<Json> {
 public:
  explicit Checker(std::string_view what) : what_(what) {}
  bool null() override { return value(); }
  bool boolean(bool /*value*/) override { return value(); }
  bool number_integer(number_integer_t /*value*/) override { return value(); }
  bool number_unsigned(number_unsigned_t /*value*/) override { return value(); }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return value(); }
  bool string(string_t& /*value*/) override { return value(); }
  bool binary(binary_t& /*value*/) override { return value(); }
  bool start_object(std::size_t /*size*/) override { return open(); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t /*size*/) override { return open(); }
  bool end_array() override { return close(); }
  /// Of a key that is there twice, one program may believe the first and another the last.
  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second) corrupt(what_, "key '" + name.substr(0, 200) + "' is there twice");
    return value();
  }
  bool parse_error(std::size_t /*position*/, const std::string& /*token*/,
                   const nlohmann::detail::exception& error) override {
    corrupt(what_, std::string("not JSON: ") + error.what());
  }

 private:
  bool value() {
    if (++values_ > kMaximumValues)
      corrupt(what_, "JSON with more than " + std::to_string(kMaximumValues) + " values");
    return true;
  }
  bool open() {
    keys_.emplace_back();
    if (keys_.size() > kMaximumDepth)
      corrupt(what_, "JSON nested deeper than " + std::to_string(kMaximumDepth) + " levels");
    return value();
  }
  bool close() {
    keys_.pop_back();
    return true;
  }
  std::string_view what_;
  std::size_t values_ = 0;
  std::vector<std::set<std::string>> keys_;  ///< of the objects that are open; empty ones for arrays
};

}  // namespace

Json parse_json(std::string_view text, std::string_view what) {
  Checker checker(what);
  (void)Json::sax_parse(text, &checker);
  try {
    return Json::parse(text);
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

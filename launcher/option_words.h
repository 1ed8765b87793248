// The words of ddprun's command line, and where a setting comes from: the command line or the environment.
//
//   const OptionWords words = split_words({"ddprun", "--nproc_per_node", "2", "train", "--lr=3"});
//   words.own["nproc-per-node"] == "2";  words.program == {"train", "--lr=3"};
//   Settings(words, environment).find("max-restarts")->source == "PET_MAX_RESTARTS"
//
// Pure; any thread.
#pragma once

#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launcher/environment.h"

namespace ddp::launcher {

/// ddprun's own options end at the first word that is neither an option nor an option's value: everything
/// from there on belongs to the program, however much it looks like an option of ours.
struct OptionWords {
  std::map<std::string, std::string> own;  ///< by name with dashes; of an option given twice the last counts
  std::vector<std::string> program;
};

/// `arguments` includes ddprun's name at [0]. Throws ConfigError: unknown option, missing, empty or unwanted
/// value.
[[nodiscard]] OptionWords split_words(const std::vector<std::string>& arguments);

/// A value and where it came from ("--nnodes", "PET_NNODES"), for messages.
struct Setting {
  std::string value;
  std::string source;
};

/// Refers to both arguments of its constructor.
class Settings {
 public:
  Settings(const OptionWords& words, const Environment& environment)
      : words_(words), environment_(environment) {}

  /// From the command line; an unset one comes from PET_<NAME>, then from `others`, variables in this order.
  /// Empty variables count as unset.
  [[nodiscard]] std::optional<Setting> find(const std::string& name,
                                            std::initializer_list<const char*> others = {}) const;
  /// From the command line only.
  [[nodiscard]] std::optional<Setting> word(const std::string& name) const;
  /// On the command line, or PET_<NAME> is 1, true or empty. Throws ConfigError on other values than 0, false.
  [[nodiscard]] bool flag(const std::string& name) const;

 private:
  [[nodiscard]] std::optional<Setting> variable(const std::string& name) const;
  const OptionWords& words_;
  const Environment& environment_;
};

}  // namespace ddp::launcher

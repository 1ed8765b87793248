#include <ddp/checkpoint/state.h>
#include <ddp/error.h>

#include <algorithm>

#include "checkpoint/snapshot/entry.h"

namespace ddp::checkpoint {
namespace {

bool is_entry_name(const std::string& name) {
  constexpr const char* kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  return !name.empty() && name.size() <= 200 && name.find_first_not_of(kAllowed) == std::string::npos;
}

constexpr std::size_t kShownProblems = 6;

}  // namespace

State::State(std::initializer_list<Entry> entries) {
  for (const auto& entry : entries) add(entry);
}

void State::add(const Entry& entry) {
  const std::string& name = entry.pointer->name();
  if (!is_entry_name(name))
    throw ConfigError("checkpoint state: '" + name +
                      "' is not a name; use letters, digits, '_', '-' and '.'");
  for (const auto& other : entries_)
    if (other->name() == name) throw ConfigError("checkpoint state: two entries are named '" + name + "'");
  entries_.push_back(entry.pointer);
}

bool Selection::has_below(const std::string& prefix) const {
  const auto at = catalog_.tensors.lower_bound(prefix);
  return at != catalog_.tensors.end() && at->first.starts_with(prefix);
}

const CatalogEntry* Selection::find(const std::string& name, const std::string& expected) {
  const auto found = catalog_.tensors.find(name);
  if (found == catalog_.tensors.end()) {
    problems_.push_back("'" + name + "' " + expected + " is missing in the checkpoint");
    return nullptr;
  }
  wanted_.insert(name);
  return &found->second;
}

void Selection::want_or_rank_0(const TensorInfo& expected) {
  const CatalogEntry* entry = find(expected.name, describe(expected));
  if (entry != nullptr && entry->stored.info != expected)
    problems_.push_back("'" + expected.name + "' is " + describe(expected) + " here and " +
                        describe(entry->stored.info) + " in the checkpoint");
}

void Selection::want(const TensorInfo& expected) {
  want_or_rank_0(expected);
  if (has(expected.name)) refuse_ambiguous(catalog_.tensors.at(expected.name));
}

void Selection::want_values(const std::string& name, ElementType type) {
  const CatalogEntry* entry = find(name, std::string(to_string(type)) + "[any]");
  if (entry == nullptr) return;
  refuse_ambiguous(*entry);
  if (entry->stored.info.type != type || entry->stored.info.shape.size() != 1)
    problems_.push_back("'" + name + "' is " + to_string(type) + "[any] here and " +
                        describe(entry->stored.info) + " in the checkpoint");
}

void Selection::refuse_ambiguous(const CatalogEntry& entry) {
  if (entry.ambiguous)
    problems_.push_back("'" + entry.stored.info.name + "' was different on each of the " +
                        std::to_string(catalog_.saved_world_size) +
                        " ranks that saved it and cannot be dealt out to another number of ranks");
}

void Selection::finish_entry(const std::string& entry) {
  const std::string prefix = entry + "/";
  for (auto at = catalog_.tensors.lower_bound(prefix);
       at != catalog_.tensors.end() && at->first.starts_with(prefix); ++at)
    if (!wanted_.contains(at->first))
      problems_.push_back("'" + at->first + "' " + describe(at->second.stored.info) +
                          " is in the checkpoint and not in the state");
}

void Selection::require_fit() const {
  if (problems_.empty()) return;
  std::string message = "the checkpoint does not fit the state: ";
  for (std::size_t i = 0; i < std::min(problems_.size(), kShownProblems); ++i)
    message += (i == 0 ? "" : "; ") + problems_[i];
  if (problems_.size() > kShownProblems)
    message += "; and " + std::to_string(problems_.size() - kShownProblems) + " more";
  throw ConfigError(message);
}

}  // namespace ddp::checkpoint

#include <ddp/checkpoint/checkpointer.h>
#include <ddp/error.h>

#include <c10/util/Exception.h>

#include <atomic>

#include "checkpoint/commit/session.h"
#include "checkpoint/snapshot/entry.h"
#include "checkpoint/storage/posix.h"

namespace ddp::checkpoint {
namespace {

CheckpointOptions checked(const CheckpointOptions& options) {
  if (options.every_steps < 0)
    throw ConfigError("CheckpointOptions::every_steps is " + std::to_string(options.every_steps) +
                      "; 0 or more");
  if (options.keep < 0)
    throw ConfigError("CheckpointOptions::keep is " + std::to_string(options.keep) + "; 0 or more");
  if (options.timeout <= std::chrono::nanoseconds(0))
    throw ConfigError("CheckpointOptions::timeout must be above 0");
  return options;
}

/// torch's exceptions carry a stack trace that hides what happened.
template <class Work>
auto without_backtrace(Work work) {
  try {
    return work();
  } catch (const c10::Error& e) {
    throw Error(e.what_without_backtrace());
  }
}

ParameterNames parameter_names(const State& state) {
  ParameterNames names;
  for (const auto& entry : state.entries()) entry->name_parameters(names);
  return names;
}

std::vector<std::string> select(const State& state, const ParameterNames& names, const Catalog& catalog) {
  Selection selection(catalog);
  for (const auto& entry : state.entries()) {
    entry->select(selection, names);
    selection.finish_entry(entry->name());
  }
  selection.require_fit();
  return selection.names();
}

}  // namespace

struct Checkpointer::Impl {
  Impl(Group& ranks, std::string_view location, const CheckpointOptions& given)
      : group(ranks),
        options(checked(given)),
        session(group, open_storage(location),
                {.keep = options.keep, .timeout = options.timeout, .read_only = options.read_only}) {}

  bool save(std::int64_t step, const State& state, bool stop_here = false) {
    Snapshot snapshot;  // holds the bytes until they are written
    return session.save(step, stop_here || stop.load(), [&] {
      return without_backtrace([&] {
        const ParameterNames names = parameter_names(state);
        for (const auto& entry : state.entries()) entry->collect(snapshot, names);
        return snapshot.tensors();
      });
    });
  }

  Group& group;
  CheckpointOptions options;
  Session session;
  std::atomic<bool> stop{false};
  static_assert(std::atomic<bool>::is_always_lock_free, "request_stop() is called from signal handlers");
};

Checkpointer::Checkpointer(Group& group, std::string_view location, const CheckpointOptions& options)
    : impl_(std::make_unique<Impl>(group, location, options)) {}
Checkpointer::~Checkpointer() = default;

std::int64_t Checkpointer::restore(State& state) {
  const ParameterNames names = parameter_names(state);
  const auto step =
      impl_->session.restore({.select =
                                  [&](const Catalog& catalog) {
                                    return without_backtrace([&] { return select(state, names, catalog); });
                                  },
                              .apply =
                                  [&](const LoadedTensors& tensors) {
                                    without_backtrace([&] {
                                      for (const auto& entry : state.entries()) entry->apply(tensors, names);
                                    });
                                  }});
  return step ? *step + 1 : 0;
}

StepResult Checkpointer::after_step(std::int64_t step, const State& state, bool stop) {
  const bool periodic = impl_->options.every_steps > 0 && (step + 1) % impl_->options.every_steps == 0;
  // Alone, nobody else has to agree on the step to stop at.
  const bool stop_alone = impl_->group.size() == 1 && impl_->stop.load();
  if (!periodic && !stop_alone && !stop) return {false, false};
  return {true, impl_->save(step, state, stop)};
}

void Checkpointer::save(std::int64_t step, const State& state) {
  (void)impl_->save(step, state);
}

void Checkpointer::request_stop() noexcept {
  impl_->stop.store(true);
}

bool Checkpointer::stop_requested() const noexcept {
  return impl_->stop.load();
}

}  // namespace ddp::checkpoint

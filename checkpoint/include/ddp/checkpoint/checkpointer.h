// Saves what a training program needs to go on bitwise exactly, and brings it back after a restart.
//
//   ddp::checkpoint::Checkpointer checkpointer(context, "runs/demo", {.every_steps = 200, .keep = 3});
//   ddp::checkpoint::State state{{"model", model}, {"optimizer", optimizer}, {"sampler", sampler}};
//   for (int64_t step = checkpointer.restore(state); step < steps; ++step) {
//     ... forward, backward, optimizer.step() ...
//     if (checkpointer.after_step(step, state).should_stop()) return ddp::kExitPreempted;
//   }
//
// restore(), after_step() and save() are collective: every rank calls them in the same order with the same
// step, from its training thread. Each rank writes its share of the bytes; a checkpoint exists once rank 0
// has committed it (docs/checkpoint-protocol.md), and one that does not verify is never loaded. What fails on
// one rank is thrown on every rank and names the first one that failed.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <ddp/checkpoint/state.h>
#include <ddp/group.h>

namespace ddp::checkpoint {

struct CheckpointOptions {
  /// after_step() saves when this many steps have been completed, and every so many again; 0: only save() does.
  std::int64_t every_steps = 1000;
  /// Newest checkpoints to keep, counting only those whose files are all there; 0: all.
  int keep = 3;
  /// Longest wait for the other ranks, for each of the votes of a save or a restore.
  std::chrono::nanoseconds timeout = std::chrono::minutes(10);
  /// For programs that only look (evaluation, sampling): restore() claims nothing, so that a running job is
  /// not fenced out; saving is a ConfigError.
  bool read_only = false;
};

/// What after_step() tells.
class StepResult {
 public:
  StepResult(bool saved, bool stop) : saved_(saved), stop_(stop) {}
  /// A checkpoint of this step has been committed.
  [[nodiscard]] bool saved() const { return saved_; }
  /// Some rank asked to stop (request_stop), and this step is in a checkpoint. The same on every rank.
  [[nodiscard]] bool should_stop() const { return stop_; }

 private:
  bool saved_;
  bool stop_;
};

class Checkpointer {
 public:
  /// `location`: a folder that all ranks reach, as a path or a file:// URL; it is made when needed, and must
  /// belong to this job alone. Throws ConfigError for other URLs and for options out of range. A ddp::Context
  /// converts to its group. `group` must outlive the checkpointer.
  Checkpointer(Group& group, std::string_view location, const CheckpointOptions& options = {});
  Checkpointer(const Checkpointer&) = delete;
  Checkpointer& operator=(const Checkpointer&) = delete;
  ~Checkpointer();

  /// Loads the newest checkpoint that verifies on every rank; returns the next step to run, 0 when there is
  /// none yet. Claims the checkpoint log: an older incarnation of the job that still runs gets FencedOut at
  /// its next save. Checkpoints that do not verify are skipped with a warning that says why. Throws
  /// ConfigError when the checkpoint does not fit the state (the first names and both shapes), or per-rank
  /// state was saved at another world size and cannot be dealt out again; CorruptCheckpoint when there are
  /// checkpoints but none verifies; StorageError; TimeoutError naming the ranks that did not come.
  [[nodiscard]] std::int64_t restore(State& state);

  /// To be called when `step` (counted from 0) is complete. Saves when due, see CheckpointOptions::every_steps, or
  /// when `stop`, the same on all ranks, says that they have agreed to stop here.
  StepResult after_step(std::int64_t step, const State& state, bool stop = false);

  /// Saves now; returns once the checkpoint is committed. Throws MismatchError when ranks disagree on step or
  /// state, StorageError naming the rank that could not write, FencedOut when a newer incarnation owns the
  /// log. After a StorageError training may go on; the checkpoints before are untouched.
  void save(std::int64_t step, const State& state);

  /// Asks all ranks to stop at a step they agree on: the next one that is saved (in a world of one: the next
  /// one, which is saved for it). Any thread; async-signal-safe.
  void request_stop() noexcept;
  /// Whether request_stop() was called on this rank. A program that reduces something in every step anyway, a loss,
  /// lets this ride along and passes the sum's verdict to after_step(): then all stop after that very step.
  [[nodiscard]] bool stop_requested() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ddp::checkpoint

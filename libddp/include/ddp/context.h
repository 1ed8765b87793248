// A rank's view of its job: who it is, and what connects it to the others. Made once, by ddp::init(), and
// passed to what needs it.
//
//   ddp::Context context = ddp::init();  // torchrun, ddprun, mpirun, Slurm, PyTorchJob, or nothing: one process
//   if (context.rank() == 0) std::cout << "training on " << context.world_size() << " ranks\n";
//
// Contexts are handles: copies share the same connections, which close with the last copy. Accessors may be
// called from any thread; the communicator and the group have their own rules.
#pragma once

#include <c10/core/Device.h>

#include <memory>

#include <ddp/cluster_env.h>
#include <ddp/communicator.h>
#include <ddp/group.h>
#include <ddp/store.h>

namespace ddp {

class Context {
 public:
  [[nodiscard]] const ClusterEnv& env() const;
  [[nodiscard]] int rank() const { return env().rank; }
  [[nodiscard]] int world_size() const { return env().world_size; }
  [[nodiscard]] int local_rank() const { return env().local_rank; }
  /// What InitOptions::device asked for; of several GPUs the one numbered local_rank().
  [[nodiscard]] c10::Device device() const;
  /// Over all ranks of the job. Used by one thread at a time, see ddp/communicator.h; it lives as long as the context.
  [[nodiscard]] Communicator& communicator() const;
  [[nodiscard]] const std::shared_ptr<Communicator>& shared_communicator() const;
  /// The job's store, below this restart attempt's prefix.
  [[nodiscard]] const std::shared_ptr<Store>& store() const;
  /// The ranks as the checkpoint library sees them: they exchange by way of the store. One thread at a time.
  [[nodiscard]] Group& group() const;
  // NOLINTNEXTLINE(google-explicit-constructor): a Context is a Group to those who know only that
  operator Group&() const { return group(); }

  /// A context from parts: tests, and programs that bring their own communicator.
  Context(ClusterEnv env, std::shared_ptr<Store> store, std::shared_ptr<Communicator> communicator,
          std::shared_ptr<Group> group, c10::Device device);

 private:
  struct Parts;
  std::shared_ptr<const Parts> parts_;
};

}  // namespace ddp

#include <ddp/context.h>

namespace ddp {

struct Context::Parts {
  // Destroyed from the last to the first: the communicator before the store it was formed over.
  ClusterEnv env;
  c10::Device device;
  std::shared_ptr<Store> store;
  std::shared_ptr<Group> group;
  std::shared_ptr<Communicator> communicator;
};

Context::Context(ClusterEnv env, std::shared_ptr<Store> store, std::shared_ptr<Communicator> communicator,
                 std::shared_ptr<Group> group, c10::Device device)
    : parts_(std::make_shared<const Parts>(
          Parts{std::move(env), device, std::move(store), std::move(group), std::move(communicator)})) {}

const ClusterEnv& Context::env() const {
  return parts_->env;
}
c10::Device Context::device() const {
  return parts_->device;
}
Communicator& Context::communicator() const {
  return *parts_->communicator;
}
const std::shared_ptr<Communicator>& Context::shared_communicator() const {
  return parts_->communicator;
}
const std::shared_ptr<Store>& Context::store() const {
  return parts_->store;
}
Group& Context::group() const {
  return *parts_->group;
}

}  // namespace ddp

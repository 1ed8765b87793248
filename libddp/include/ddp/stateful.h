// Something whose exact state goes into a checkpoint as bytes: samplers, schedulers, random generators,
// counters of yours.
#pragma once

#include <string>
#include <string_view>

namespace ddp {

class Stateful {
 public:
  virtual ~Stateful() = default;
  /// Everything needed to go on exactly here. Bytes may be binary; they are opaque to the checkpoint.
  [[nodiscard]] virtual std::string save_state() const = 0;
  /// Takes a string made by save_state(). Throws CorruptCheckpoint when it cannot be one.
  virtual void load_state(std::string_view state) = 0;
};

}  // namespace ddp

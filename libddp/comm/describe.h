// Ranks and operations as error messages show them.
#pragma once

#include <string>
#include <vector>

#include <ddp/communicator.h>

namespace ddp::comm {

/// What a rank told about itself when the communicator was formed.
struct RankName {
  int rank = 0;
  std::string host;
  int pid = 0;
};

/// "rank 3 (node-b, pid 4711)"
[[nodiscard]] std::string describe(const RankName& name);

/// "all_reduce #17 (float32 x 100, sum)", with root, peer and tag where they matter.
[[nodiscard]] std::string describe(const Operation& operation);

}  // namespace ddp::comm

namespace ddp::host {
using namespace comm;  // what all backends share
}  // namespace ddp::host

#include "libddp/comm/describe.h"

#include "libddp/comm/operation.h"

namespace ddp::comm {
std::string describe(const RankName& name) {
  return "rank " + std::to_string(name.rank) + " (" + name.host + ", pid " + std::to_string(name.pid) + ")";
}

std::string describe(const Operation& operation) {
  std::string text = std::string(to_string(operation.kind)) + " #" + std::to_string(operation.sequence);
  if (operation.kind == OpKind::kBarrier)
    return operation.tag == 0 ? text : text + " (tag " + std::to_string(operation.tag) + ")";
  text += std::string(" (") + to_string(operation.dtype) + " x " + std::to_string(operation.count);
  if (reduces(operation.kind)) text += std::string(", ") + to_string(operation.op);
  if (operation.root >= 0) text += ", root " + std::to_string(operation.root);
  if (operation.kind == OpKind::kSend) text += ", to rank " + std::to_string(operation.peer);
  if (operation.kind == OpKind::kRecv) text += ", from rank " + std::to_string(operation.peer);
  if (operation.tag != 0) text += ", tag " + std::to_string(operation.tag);
  return text + ")";
}

}  // namespace ddp::comm

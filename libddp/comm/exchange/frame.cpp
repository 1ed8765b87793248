#include "libddp/comm/exchange/frame.h"

#include <ddp/error.h>

#include "libddp/comm/operation.h"

namespace ddp::comm::wire {
namespace {

Operation operation_of(const Frame& frame) {
  Operation operation;
  operation.kind = static_cast<OpKind>(frame.kind);
  operation.dtype = static_cast<DType>(frame.dtype);
  operation.op = static_cast<ReduceOp>(frame.op);
  operation.root = frame.root;
  operation.peer = frame.peer;
  operation.count = frame.count;
  operation.tag = frame.tag;
  operation.sequence = frame.sequence;
  return operation;
}

/// What `me` expects to hear from `them`: the same, but a send from there is a recv here.
Frame counterpart(Frame frame, int me) {
  const auto kind = static_cast<OpKind>(frame.kind);
  if (kind == OpKind::kSend || kind == OpKind::kRecv) {
    frame.kind = static_cast<std::uint8_t>(kind == OpKind::kSend ? OpKind::kRecv : OpKind::kSend);
    frame.peer = me;
  }
  return frame;
}

bool same_call(const Frame& a, const Frame& b) {
  const bool own_counts = static_cast<OpKind>(a.kind) == OpKind::kAllGatherV;
  return a.kind == b.kind && a.dtype == b.dtype && a.op == b.op && a.root == b.root && a.peer == b.peer &&
         a.sequence == b.sequence && (own_counts || a.count == b.count) && a.tag == b.tag;
}

constexpr const char* kAdvice =
    ": all ranks must call the same operations in the same order with the same arguments";

}  // namespace

const char* invalid(const Frame& frame) {
  if (frame.magic != kFrameMagic) return "a frame without the magic number";
  if (frame.type < FrameType::kOperation || frame.type > FrameType::kWaiting) return "an unknown frame type";
  const std::size_t limit = frame.type == FrameType::kOperation ? kInlineBytes
                            : frame.type == FrameType::kFailure ? kLongestText
                                                                : 0;
  if (frame.payload > limit) return "a frame that is too long";
  if (frame.type == FrameType::kFailure)
    return frame.kind > static_cast<std::uint8_t>(ErrorKind::kAborted) ? "an unknown kind of error" : nullptr;
  if (frame.type != FrameType::kOperation) return nullptr;
  if (frame.kind > static_cast<std::uint8_t>(OpKind::kBarrier)) return "an unknown operation";
  if (frame.dtype > static_cast<std::uint8_t>(DType::kBFloat16)) return "an unknown dtype";
  if (frame.op > static_cast<std::uint8_t>(ReduceOp::kBitXor)) return "an unknown reduction";
  return nullptr;
}

Frame frame_of(const Operation& operation, std::uint64_t digest) {
  Frame frame;
  frame.kind = static_cast<std::uint8_t>(operation.kind);
  frame.dtype = static_cast<std::uint8_t>(operation.dtype);
  frame.op = reduces(operation.kind) ? static_cast<std::uint8_t>(operation.op) : 0;
  frame.root = operation.root;
  frame.peer = operation.peer;
  frame.sequence = operation.sequence;
  frame.count = operation.count;
  frame.tag = operation.tag;
  frame.digest = digest;
  return frame;
}

std::uint64_t digest_of(std::span<const std::uint64_t> numbers) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a over whole numbers, with a final mix
  for (const std::uint64_t number : numbers) hash = (hash ^ number) * 0x100000001b3u;
  return hash ^ (hash >> 29);
}

std::uint64_t digest_of_counts(const Operation& operation) {
  if (operation.kind != OpKind::kAllGatherV) return 0;
  const std::vector<std::uint64_t> counts(operation.counts.begin(), operation.counts.end());
  return digest_of(counts);
}

std::optional<std::string> disagreement(const Frame& mine, const RankName& me, const Frame& theirs,
                                        const RankName& them) {
  const Frame expected = counterpart(mine, me.rank);
  const bool same = same_call(expected, theirs);
  if (same && expected.digest == theirs.digest) return std::nullopt;
  std::string text = describe(them) + " called " + describe(operation_of(theirs)) + "; " + describe(me) +
                     " called " + describe(operation_of(mine));
  if (!same) return text + kAdvice;
  return text + ": they differ in the counts of the ranks or in which ranks take part";
}

}  // namespace ddp::comm::wire

namespace ddp::comm {

std::string follow_reports(const wire::Frame& operation, int rank, const Reports& reports) {
  std::string text;
  for (int hops = 0; hops < reports.size && rank != reports.me; ++hops) {
    const auto report = reports.waiting(rank);
    if (!report || report->sequence != operation.sequence || report->kind != operation.kind) break;
    if (report->peer < 0 || report->peer >= reports.size || report->peer == reports.me) break;
    rank = report->peer;
    text += ", which waits for " + describe(reports.name(rank));
  }
  return text;
}

}  // namespace ddp::comm

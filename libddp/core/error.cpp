#include <ddp/error.h>
#include <ddp/exit_code.h>

namespace ddp {

const char* to_string(ErrorKind kind) noexcept {
  switch (kind) {
    case ErrorKind::kConfig:
      return "ConfigError";
    case ErrorKind::kRendezvous:
      return "RendezvousError";
    case ErrorKind::kTimeout:
      return "TimeoutError";
    case ErrorKind::kPeerFailure:
      return "PeerFailure";
    case ErrorKind::kMismatch:
      return "MismatchError";
    case ErrorKind::kStorage:
      return "StorageError";
    case ErrorKind::kCorruptCheckpoint:
      return "CorruptCheckpoint";
    case ErrorKind::kFencedOut:
      return "FencedOut";
    case ErrorKind::kAborted:
      return "Aborted";
    case ErrorKind::kError:
      break;
  }
  return "Error";
}

void throw_error(ErrorKind kind, const std::string& message) {
  switch (kind) {
    case ErrorKind::kConfig:
      throw ConfigError(message);
    case ErrorKind::kRendezvous:
      throw RendezvousError(message);
    case ErrorKind::kTimeout:
      throw TimeoutError(message);
    case ErrorKind::kPeerFailure:
      throw PeerFailure(message);
    case ErrorKind::kMismatch:
      throw MismatchError(message);
    case ErrorKind::kStorage:
      throw StorageError(message);
    case ErrorKind::kCorruptCheckpoint:
      throw CorruptCheckpoint(message);
    case ErrorKind::kFencedOut:
      throw FencedOut(message);
    case ErrorKind::kAborted:
      throw Aborted(message);
    case ErrorKind::kError:
      break;
  }
  throw Error(message);
}

int exit_code(const std::exception& error) noexcept {
  const auto* ours = dynamic_cast<const Error*>(&error);
  if (ours == nullptr) return 1;
  switch (ours->kind()) {
    case ErrorKind::kConfig:
    case ErrorKind::kFencedOut:
    case ErrorKind::kCorruptCheckpoint:  // after every one that might have verified was tried
      return kExitDoNotRestart;
    default:
      return 1;
  }
}

}  // namespace ddp

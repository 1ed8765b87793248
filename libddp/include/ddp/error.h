// Every failure libddp reports is a ddp::Error; catch the subclass you can act on.
//
//   try { parallel.forward(x).backward(); }
//   catch (const ddp::PeerFailure& e) { return restart_me(e.what()); }
//
// A message says what happened, on which rank and host, in which operation or variable or file, and what to
// do. Exceptions are values: they may be copied between threads and rethrown.
#pragma once

#include <stdexcept>
#include <string>

namespace ddp {

/// Which subclass an error is; stable numbers, because errors travel between ranks.
enum class ErrorKind : int {
  kError = 0,
  kConfig = 1,
  kRendezvous = 2,
  kTimeout = 3,
  kPeerFailure = 4,
  kMismatch = 5,
  kStorage = 6,
  kCorruptCheckpoint = 7,
  kFencedOut = 8,
  kAborted = 9,
};

/// Base of all libddp exceptions.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, ErrorKind kind = ErrorKind::kError)
      : std::runtime_error(message), kind_(kind) {}
  [[nodiscard]] ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

/// One subclass per kind; the template keeps the nine of them one line each.
template <ErrorKind Kind>
class ErrorOf : public Error {
 public:
  explicit ErrorOf(const std::string& message) : Error(message, Kind) {}
};

/// The environment, the options or the arguments contradict each other or are out of range. Restarting does not help.
using ConfigError = ErrorOf<ErrorKind::kConfig>;
/// Ranks could not find or trust each other while the job was being formed.
using RendezvousError = ErrorOf<ErrorKind::kRendezvous>;
/// A wait reached its deadline; the message names who is missing, where the transport can know.
using TimeoutError = ErrorOf<ErrorKind::kTimeout>;
/// Another rank died or closed its connection.
using PeerFailure = ErrorOf<ErrorKind::kPeerFailure>;
/// Ranks called different operations, or the same one with different counts, dtypes or shapes. Both sides are shown.
using MismatchError = ErrorOf<ErrorKind::kMismatch>;
/// A file system or an object store refused or failed an operation.
using StorageError = ErrorOf<ErrorKind::kStorage>;
/// A checkpoint does not verify.
using CorruptCheckpoint = ErrorOf<ErrorKind::kCorruptCheckpoint>;
/// A newer incarnation of this job owns the checkpoint log; this one must stop.
using FencedOut = ErrorOf<ErrorKind::kFencedOut>;
/// Communicator::abort() was called while the operation waited.
using Aborted = ErrorOf<ErrorKind::kAborted>;

/// The name of a kind as users write it ("TimeoutError").
[[nodiscard]] const char* to_string(ErrorKind kind) noexcept;

/// Throws the subclass that belongs to `kind`: how an error that came over a wire becomes an exception again.
[[noreturn]] void throw_error(ErrorKind kind, const std::string& message);

}  // namespace ddp

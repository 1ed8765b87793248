// From the workers' pipes to the terminal: whole lines, each with its rank in front, never interleaved, never
// lost, never in the way of the supervisor's loop.
//
// One thread. Memory is bounded by the caller, who stops reading pipes while full() is true: then the worker
// blocks in its write, as it would on a slow terminal.
#pragma once

#include <deque>
#include <string>
#include <string_view>

#include "libddp/core/fd.h"

namespace ddp::launcher {

/// Bytes on their way to a descriptor that may be slow. Written only when poll() says so, a piece at a time
/// that a pipe takes without blocking: the descriptor belongs to others too and keeps its flags.
class OutputSink {
 public:
  explicit OutputSink(int fd) : fd_(fd) {}
  void push(std::string_view bytes) {
    if (error_ == 0) pending_.append(bytes);
  }
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] bool empty() const { return offset_ == pending_.size(); }
  [[nodiscard]] bool full() const { return pending_.size() - offset_ >= kLimit; }
  /// Call when poll() reported the descriptor writable or broken.
  void write_some();
  /// errno of the write that failed; 0: none. From then on what is pushed is dropped: workers go on.
  [[nodiscard]] int error() const { return error_; }
  /// Whether a log file of a stream that comes here could not be written.
  void count_lost_log() { lost_log_ = true; }
  [[nodiscard]] bool lost_log() const { return lost_log_; }
  /// Bytes written so far: does anybody read?
  [[nodiscard]] std::size_t written() const { return written_; }

 private:
  [[nodiscard]] std::size_t next_piece() const;
  static constexpr std::size_t kLimit = 1 << 20;
  static constexpr std::size_t kPiece = 4096;  // PIPE_BUF: what POLLOUT promises
  int fd_;
  int error_ = 0;
  bool lost_log_ = false;
  std::size_t written_ = 0;
  std::string pending_;
  std::size_t offset_ = 0;
};

/// Cuts one stream of one worker into lines. A carriage return ends a line too (progress bars); a line longer
/// than 64 KiB is cut between characters of UTF-8. The log file gets the bytes as they came.
class LineRelay {
 public:
  /// `name` is what messages call this stream ("rank 3"); `log` may be closed: no log file.
  LineRelay(std::string prefix, OutputSink& sink, FileDescriptor log, std::string name = "a worker")
      : prefix_(std::move(prefix)), sink_(&sink), log_(std::move(log)), name_(std::move(name)) {}
  void feed(std::string_view bytes);
  /// The stream ended: a last line without newline gets one.
  void finish();
  /// The last lines, at most ten.
  [[nodiscard]] const std::deque<std::string>& tail() const { return tail_; }

 private:
  static constexpr std::size_t kLongest = 64 * 1024;
  void write_log(std::string_view bytes);
  void emit(std::string_view line);
  std::size_t line_end(std::size_t from);
  std::string prefix_;
  OutputSink* sink_;
  FileDescriptor log_;
  std::string name_;
  std::string partial_;
  std::size_t scanned_ = 0;  ///< of partial_: holds no line end up to here
  std::deque<std::string> tail_;
};

}  // namespace ddp::launcher

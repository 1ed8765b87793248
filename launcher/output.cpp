#include "launcher/output.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace ddp::launcher {
namespace {

/// The largest n <= limit at which `text` can be cut without splitting a UTF-8 sequence; `limit` for binary.
std::size_t utf8_cut(std::string_view text, std::size_t limit) {
  for (std::size_t n = limit; n + 4 > limit && n > 0; --n)
    if ((static_cast<unsigned char>(text[n]) & 0xC0) != 0x80) return n;
  return limit;
}

}  // namespace

/// Ends with a line where it can, so that what others write to the same terminal does not fall into one.
std::size_t OutputSink::next_piece() const {
  const std::size_t left = pending_.size() - offset_;
  if (left <= kPiece) return left;
  const auto newline = std::string_view(pending_).substr(offset_, kPiece).rfind('\n');
  return newline == std::string_view::npos ? kPiece : newline + 1;
}

void OutputSink::write_some() {
  if (empty()) return;
  const ssize_t n = ::write(fd_, pending_.data() + offset_, next_piece());
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n < 0) error_ = errno;
  if (n > 0) written_ += static_cast<std::size_t>(n);
  offset_ = n < 0 ? pending_.size() : offset_ + static_cast<std::size_t>(n);
  if (empty() || offset_ > kLimit) {
    pending_.erase(0, offset_);
    offset_ = 0;
  }
}

void LineRelay::feed(std::string_view bytes) {
  write_log(bytes);
  partial_.append(bytes);
  std::size_t begin = 0;
  for (std::size_t end = line_end(begin); end != begin; end = line_end(begin)) {
    emit(std::string_view(partial_).substr(begin, end - begin));
    begin = end;
  }
  partial_.erase(0, begin);
  scanned_ = partial_.empty() || partial_.back() != '\r' ? partial_.size() : partial_.size() - 1;
}

/// One past the line that starts at `from`; `from` when it is not complete yet.
std::size_t LineRelay::line_end(std::size_t from) {
  const auto end = partial_.find_first_of("\r\n", std::max(from, scanned_));
  const auto length = (end == partial_.npos ? partial_.size() : end) - from;
  if (length > kLongest) return from + utf8_cut(std::string_view(partial_).substr(from), kLongest);
  if (end == partial_.npos) return from;
  if (partial_[end] == '\n') return end + 1;
  // A carriage return at the very end may be the first half of "\r\n": wait for what follows.
  if (end + 1 == partial_.size()) return from;
  return end + (partial_[end + 1] == '\n' ? 2 : 1);
}

void LineRelay::finish() {
  if (!partial_.empty() && partial_.back() == '\r') partial_ += '\n';  // the next line is another's
  if (!partial_.empty()) emit(partial_);
  partial_.clear();
  scanned_ = 0;
  log_.reset();
}

void LineRelay::emit(std::string_view line) {
  sink_->push(prefix_);
  sink_->push(line);
  if (line.back() != '\n' && line.back() != '\r') sink_->push("\n");
  const auto text = line.substr(0, line.find_last_not_of("\r\n") + 1);
  if (text.empty()) return;
  if (tail_.size() == 10) tail_.pop_front();
  tail_.emplace_back(text.size() > 500 ? text.substr(0, utf8_cut(text, 500)) : text);
}

void LineRelay::write_log(std::string_view bytes) {
  while (log_ && !bytes.empty()) {
    const ssize_t n = ::write(log_.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      sink_->count_lost_log();
      sink_->push(
          errno_message("ddprun: the log file of " + name_ + " cannot be written, logging stops", errno) +
          "\n");
      log_.reset();
      return;
    }
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

}  // namespace ddp::launcher

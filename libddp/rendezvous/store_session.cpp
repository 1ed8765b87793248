#include "libddp/rendezvous/store_session.h"

#include <algorithm>

#include <ddp/error.h>
#include <ddp/log.h>

#include "libddp/rendezvous/store_connection.h"
#include "libddp/rendezvous/store_wire.h"

namespace ddp {
namespace {

constexpr std::size_t kPauseReading = std::size_t{64} << 20;
constexpr std::size_t kMaxQueued = std::size_t{256} << 20;
/// What is encrypted and given to the kernel at once.
constexpr std::size_t kSlice = std::size_t{128} << 10;

}  // namespace

StoreSession::StoreSession(Host& host, Socket socket, std::uint64_t id)
    : host_(host),
      socket_(std::move(socket)),
      guard_({socket_.native_handle()}),
      timer_(socket_.get_executor()),
      id_(id),
      handshake_(store_terms(host.options.token)) {}

void StoreSession::begin(bool busy) {
  busy_ = busy;
  asio::error_code error;
  socket_.non_blocking(true, error);
  if (error) return close();
  limit(host_.options.handshake_time);
  wait_readable();
}

void StoreSession::close() {
  if (closed_) return;
  closed_ = true;
  asio::error_code ignored;
  stop_timer();
  socket_.shutdown(asio::socket_base::shutdown_both, ignored);
  socket_.close(ignored);
  host_.ended(id_);
}

/// Whatever goes wrong with one client ends that client's connection and nothing else.
template <class Handler>
void StoreSession::guarded(Handler handler) {
  try {
    handler();
  } catch (const std::exception& failure) {
    refuse(failure.what());
  }
}

// --- In --------------------------------------------------------------------------------------------------------

void StoreSession::wait_readable() {
  socket_.async_wait(Socket::wait_read, [this, self = shared_from_this()](asio::error_code error) {
    if (error || closed_) return close();
    guarded([this] { readable(); });
  });
}

void StoreSession::readable() {
  asio::error_code error;
  const std::size_t got = socket_.read_some(asio::buffer(host_.arrived), error);
  if (error && error != asio::error::would_block && error != asio::error::interrupted) return close();
  if (!error) take({host_.arrived.data(), got});
  if (!closed_ && !refused_ && !paused_) wait_readable();
}

void StoreSession::take(std::string_view wire) {
  if (channel_)
    channel_->receive(wire);
  else
    plain_ += wire;
  advance();
  write();
}

void StoreSession::decrypt() {
  std::array<char, 16384> piece;
  while (const std::size_t got = channel_->read(piece.data(), piece.size())) plain_.append(piece.data(), got);
}

void StoreSession::advance() {
  if (channel_ && stage_ == Stage::kFrames) decrypt();
  while (!closed_ && !refused_ && !(paused_ = queued_ > kPauseReading) && step()) {
  }
  plain_.erase(0, consumed_);
  consumed_ = 0;
  if (stage_ == Stage::kFrames) time_frames();
}

/// One message of whatever comes next; false when it is not there yet.
bool StoreSession::step() {
  switch (stage_) {
    case Stage::kHello:
      return answer_hello();
    case Stage::kProof:
      return judge_proof();
    case Stage::kTls:
      return finish_tls();
    case Stage::kFrames:
      return execute_frame();
  }
  return false;
}

template <std::size_t N>
bool StoreSession::consume(std::array<std::uint8_t, N>& to) {
  if (unread().size() < N) return false;
  std::copy_n(unread().begin(), N, to.begin());
  consumed_ += N;
  return true;
}

bool StoreSession::answer_hello() {
  handshake::Hello hello{};
  if (!consume(hello)) return false;
  handshake::Hello answer = handshake_.answer(hello);
  if (busy_ && !handshake_.refused()) answer = handshake_.busy();
  wire_.append(answer.begin(), answer.end());
  stage_ = Stage::kProof;
  if (handshake_.refused()) refuse(handshake_.refusal());
  return true;
}

bool StoreSession::judge_proof() {
  handshake::Proof proof{};
  if (!consume(proof)) return false;
  const handshake::Verdict verdict = handshake_.judge(proof);
  wire_.append(verdict.begin(), verdict.end());
  if (handshake_.refused()) {
    refuse(handshake_.refusal());
    return false;
  }
  host_.proven(id_);
  if (!host_.tls) {
    stage_ = Stage::kFrames;
    stop_timer();
    return true;
  }
  channel_ = host_.tls->open(handshake_.session_key());
  stage_ = Stage::kTls;
  const std::string rest(unread());
  plain_.clear();
  consumed_ = 0;
  channel_->receive(rest);
  return true;
}

bool StoreSession::finish_tls() {
  if (!channel_->established()) return false;
  stage_ = Stage::kFrames;
  stop_timer();
  decrypt();
  return true;
}

bool StoreSession::execute_frame() {
  const std::string_view bytes = unread();
  if (bytes.size() < store_wire::kHeaderBytes) return false;
  const auto header = store_wire::decode_header(bytes.substr(0, store_wire::kHeaderBytes));
  if (!header) throw RendezvousError("a frame of impossible length");
  if (bytes.size() - store_wire::kHeaderBytes < header->body_bytes) return false;
  const auto request =
      store_wire::decode_request(*header, bytes.substr(store_wire::kHeaderBytes, header->body_bytes));
  if (!request) throw RendezvousError("a malformed request");
  consumed_ += store_wire::kHeaderBytes + header->body_bytes;
  stop_timer();
  host_.state.execute(id_, *request, [weak = weak_from_this()](const store_wire::Reply& answer) {
    if (const auto self = weak.lock()) self->reply(store_wire::encode(answer));
  });
  return true;
}

/// The clock runs while a part of something is there, unless it is this side that does not read.
void StoreSession::time_frames() {
  const bool partial = !plain_.empty() || (channel_ && channel_->in_record());
  if (paused_ || refused_ || !partial) {
    if (!refused_) stop_timer();
  } else if (!timing_) {
    limit(host_.options.frame_time);
  }
}

void StoreSession::limit(std::chrono::nanoseconds time) {
  timing_ = true;
  timer_.expires_after(std::chrono::duration_cast<asio::steady_timer::duration>(time));
  timer_.async_wait([this, self = shared_from_this()](asio::error_code error) {
    // It may have been set anew since this was queued.
    if (error || !timing_ || Clock::now() < timer_.expiry()) return;
    log::debug("store: connection dropped", {{"why", refused_ ? "does not read the refusal" : "too slow"}});
    close();
  });
}

void StoreSession::stop_timer() {
  timing_ = false;
  timer_.cancel();
}

// --- Out -------------------------------------------------------------------------------------------------------

/// May be called while another client's request is executed: throws nothing of its own, closes nothing at once.
void StoreSession::reply(std::string frame) {
  if (closed_ || refused_) return;
  queued_ += frame.size();
  outgoing_.push_back(std::move(frame));
  if (queued_ > kMaxQueued) return refuse("does not read its replies");
  guarded([this] { write(); });
}

void StoreSession::write() {
  if (closed_ || !in_flight_.empty()) return;
  fill_wire();
  if (wire_.empty()) return;
  in_flight_.swap(wire_);
  asio::async_write(socket_, asio::buffer(in_flight_),
                    [this, self = shared_from_this()](asio::error_code error, std::size_t) {
                      if (error || closed_) return close();
                      in_flight_.clear();
                      guarded([this] { written(); });
                    });
}

void StoreSession::fill_wire() {
  if (channel_) wire_ += channel_->take_wire();  // TLS's own messages
  while (wire_.size() < kSlice && !outgoing_.empty()) {
    const auto piece = std::string_view(outgoing_.front()).substr(front_sent_, kSlice);
    if (channel_) {
      channel_->write(piece);
      wire_ += channel_->take_wire();
    } else {
      wire_ += piece;
    }
    queued_ -= piece.size();
    front_sent_ += piece.size();
    if (front_sent_ < outgoing_.front().size()) continue;
    outgoing_.pop_front();
    front_sent_ = 0;
  }
}

void StoreSession::written() {
  write();
  if (refused_ && in_flight_.empty()) return close();
  if (!paused_ || closed_ || refused_ || queued_ > kPauseReading) return;
  advance();
  write();
  if (!closed_ && !refused_ && !paused_) wait_readable();
}

void StoreSession::refuse(const std::string& why) {
  if (closed_ || refused_) return;
  log::debug("store: connection refused", {{"why", why}});
  refused_ = true;
  limit(host_.options.handshake_time);
  // Later: this may be the answer to a request that another client's request has just satisfied.
  asio::post(socket_.get_executor(), [this, self = shared_from_this()] {
    guarded([this] { write(); });
    if (in_flight_.empty() || queued_ > kMaxQueued) close();
  });
}

}  // namespace ddp

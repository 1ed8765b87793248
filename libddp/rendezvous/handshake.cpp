#include "libddp/rendezvous/handshake.h"

#include <algorithm>
#include <string_view>

#include <ddp/error.h>

namespace ddp::handshake {
namespace {

constexpr std::array<std::uint8_t, 4> kMagic = {'d', 'd', 'p', 'H'};
constexpr std::uint8_t kHasToken = 1;
constexpr std::uint8_t kHasTls = 2;
constexpr std::size_t kVersionAt = 4, kFlagsAt = 5, kStatusAt = 6, kRandomAt = 8;

std::uint8_t flags_of(const Terms& terms) {
  return static_cast<std::uint8_t>((terms.token.empty() ? 0 : kHasToken) | (terms.tls ? kHasTls : 0));
}

Hello make_hello(const Terms& terms) {
  Hello hello{};
  std::copy(kMagic.begin(), kMagic.end(), hello.begin());
  hello[kVersionAt] = kVersion;
  hello[kFlagsAt] = flags_of(terms);
  random_bytes(std::span(hello).subspan(kRandomAt));
  return hello;
}

bool has_magic(std::span<const std::uint8_t> frame) {
  return std::equal(kMagic.begin(), kMagic.end(), frame.begin());
}

std::string_view text(std::span<const std::uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Everything hashed has a fixed length but `purpose`, which stands last: no two inputs read the same.
Digest derive(std::string_view role, const Terms& terms, const Hello& client, const Hello& server) {
  std::string message(role);
  message += '\0';
  message.append(text(client)).append(text(server)).append(terms.purpose);
  return hmac_sha256(hmac_sha256(terms.token, "ddp handshake 1"), message);
}

std::string describe_difference(std::uint8_t mine, std::uint8_t theirs) {
  if ((mine & kHasToken) != (theirs & kHasToken))
    return std::string((mine & kHasToken) ? "this side has a job token and the peer has none"
                                          : "the peer has a job token and this side has none") +
           ": give every rank the same DDP_JOB_TOKEN or DDP_JOB_TOKEN_FILE, or none of them";
  return std::string((mine & kHasTls) ? "this side encrypts with TLS and the peer's build cannot"
                                      : "the peer encrypts with TLS and this side's build cannot") +
         ": build both with the same DDP_TLS";
}

std::string describe_versions(std::uint8_t theirs) {
  return "the peer speaks version " + std::to_string(theirs) +
         " of libddp's handshake and this side version " + std::to_string(kVersion) +
         ": run the same libddp everywhere";
}

}  // namespace

ClientSide::ClientSide(Terms terms) : terms_(std::move(terms)), hello_(make_hello(terms_)) {}

Proof ClientSide::prove(const Hello& server) {
  if (!has_magic(server)) throw RendezvousError("the peer is not libddp (its first bytes say so)");
  if (server[kVersionAt] != kVersion) throw ConfigError(describe_versions(server[kVersionAt]));
  if (server[kStatusAt] == static_cast<std::uint8_t>(Status::kBusy))
    throw PeerFailure("the peer has no room for another connection now");
  if (server[kFlagsAt] != flags_of(terms_))
    throw ConfigError(describe_difference(flags_of(terms_), server[kFlagsAt]));
  if (server[kStatusAt] != 0)
    throw RendezvousError("the peer refused with status " + std::to_string(server[kStatusAt]));
  server_ = server;
  return derive("client", terms_, hello_, server_);
}

void ClientSide::check(const Verdict& verdict) const {
  if (!has_magic(verdict)) throw RendezvousError("the peer is not libddp (its verdict says so)");
  if (verdict[kStatusAt] != 0)
    throw RendezvousError(
        terms_.token.empty()
            ? "the peer belongs to another job, or expected another connection than '" + terms_.purpose + "'"
            : "the peer has another job token, or expected another connection than '" + terms_.purpose +
                  "': give every rank the same DDP_JOB_TOKEN or DDP_JOB_TOKEN_FILE");
  const Digest expected = derive("server", terms_, hello_, server_);
  if (!equal_in_constant_time(expected, std::span(verdict).subspan(kRandomAt)))
    throw RendezvousError("the peer accepted this side but cannot prove that it knows the job token");
}

Digest ClientSide::session_key() const {
  return derive("session", terms_, hello_, server_);
}

ServerSide::ServerSide(Terms terms) : terms_(std::move(terms)), hello_(make_hello(terms_)) {}

Hello ServerSide::answer(const Hello& client) {
  if (!has_magic(client)) throw RendezvousError("the peer is not libddp (its first bytes say so)");
  client_ = client;
  Status status = Status::kOk;
  if (client[kVersionAt] != kVersion) {
    status = Status::kVersion;
    refusal_ = describe_versions(client[kVersionAt]);
  } else if (client[kFlagsAt] != flags_of(terms_)) {
    status = Status::kTerms;
    refusal_ = describe_difference(flags_of(terms_), client[kFlagsAt]);
  }
  hello_[kStatusAt] = static_cast<std::uint8_t>(status);
  return hello_;
}

Verdict ServerSide::judge(const Proof& proof) {
  Verdict verdict{};
  std::copy(hello_.begin(), hello_.begin() + kRandomAt, verdict.begin());
  if (equal_in_constant_time(derive("client", terms_, client_, hello_), proof)) {
    const Digest mine = derive("server", terms_, client_, hello_);
    std::copy(mine.begin(), mine.end(), verdict.begin() + kRandomAt);
  } else {
    verdict[kStatusAt] = static_cast<std::uint8_t>(Status::kProof);
    refusal_ =
        terms_.token.empty()
            ? "the peer belongs to another job, or wanted another connection than '" + terms_.purpose + "'"
            : "the peer has another job token, or wanted another connection than '" + terms_.purpose + "'";
  }
  return verdict;
}

Hello ServerSide::busy() {
  hello_[kStatusAt] = static_cast<std::uint8_t>(Status::kBusy);
  refusal_ = "too many connections";
  return hello_;
}

Digest ServerSide::session_key() const {
  return derive("session", terms_, client_, hello_);
}

}  // namespace ddp::handshake

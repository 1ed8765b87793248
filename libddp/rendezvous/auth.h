// The job token: who knows it belongs to the job. Loading it, and proving it over a connected stream socket
// without sending it.
//
//   const std::string token = ddp::load_job_token(ddp::read_environment).value_or("");
//   ddp::authenticate_client(fd, token, "mesh/3->0", Deadline::in(10s));   // the side that connected
//   ddp::authenticate_server(fd, token, "mesh/3->0", Deadline::in(10s));   // the side that accepted
//
// Functions may be called from any thread; a descriptor belongs to one call at a time. What goes over the
// wire: libddp/rendezvous/handshake.h and docs/store-protocol.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <ddp/cluster_env.h>
#include <ddp/deadline.h>

namespace ddp {

/// A HMAC-SHA-256, and the keys made from one.
using Digest = std::array<std::uint8_t, 32>;

/// Fills `bytes` from the kernel's generator. Throws Error when the kernel refuses.
void random_bytes(std::span<std::uint8_t> bytes);
[[nodiscard]] Digest hmac_sha256(std::span<const std::uint8_t> key, std::string_view message);
[[nodiscard]] Digest hmac_sha256(std::string_view key, std::string_view message);
/// Takes the same time wherever the two differ.
[[nodiscard]] bool equal_in_constant_time(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b);

/// Shorter secrets can be guessed from one recorded handshake.
inline constexpr std::size_t kShortestToken = 16;
inline constexpr std::size_t kLongestToken = 4096;

/// The token given by DDP_JOB_TOKEN or by the file DDP_JOB_TOKEN_FILE names (newlines at its end do not
/// count); nullopt when neither is set. Throws ConfigError when both are set, or when the token is
/// unreadable, empty, shorter than 16 or longer than 4096 bytes. No message ever shows the token.
[[nodiscard]] std::optional<std::string> load_job_token(const EnvLookup& lookup);

/// Both sides prove that they know `token` and mean the same `purpose`. An empty token proves only that the
/// peer is libddp of the same protocol version and means the same purpose. Works on blocking and non-blocking
/// descriptors, reads exactly the handshake's bytes and not one more. Throws
///   TimeoutError     nothing (more) came until the deadline,
///   PeerFailure      the peer closed the connection; trying again may help,
///   ConfigError      one side has a token and the other has none, or the versions differ,
///   RendezvousError  the peer is not libddp, has another token, or means another purpose.
void authenticate_client(int fd, std::string_view token, std::string_view purpose, Deadline deadline);
void authenticate_server(int fd, std::string_view token, std::string_view purpose, Deadline deadline);

}  // namespace ddp

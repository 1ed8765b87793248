#include "launcher/job_token.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

#include <ddp/error.h>

#include "libddp/rendezvous/auth.h"

namespace ddp::launcher {
namespace {

std::string random_token() {
  std::array<std::uint8_t, 32> bytes{};
  random_bytes(bytes);
  static constexpr char kHex[] = "0123456789abcdef";
  std::string token;
  for (const auto byte : bytes) {
    token += kHex[byte >> 4];
    token += kHex[byte & 15];
  }
  return token;
}

}  // namespace

std::string job_token(const Options& options, const Environment& environment) {
  // The same rules as in the workers, but before any of them is started.
  if (auto token = load_job_token([&](std::string_view name) { return environment.get(name); }))
    return std::move(*token);
  if (options.nnodes == 1) return random_token();
  if (environment.get("DDP_ALLOW_INSECURE") == "1") return {};
  throw ConfigError(
      "a job of " + std::to_string(options.nnodes) +
      " nodes needs a secret that its ranks share: set DDP_JOB_TOKEN_FILE to a file with the same random "
      "text on every node "
      "(or DDP_JOB_TOKEN to the text), or accept that anybody on the network can join: DDP_ALLOW_INSECURE=1");
}

FileDescriptor sealed_token(const std::string& token) {
  FileDescriptor file(::memfd_create("ddp-job-token", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) throw Error(errno_message("cannot make a memory file for the job token", errno));
  if (::write(file.get(), token.data(), token.size()) != static_cast<ssize_t>(token.size()))
    throw Error(errno_message("cannot write the job token to a memory file", errno));
  // Readable for a worker that has changed its user; the way to it, /proc/<pid>/fd, is closed to strangers.
  if (::fchmod(file.get(), 0444) != 0 ||
      ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
    throw Error(errno_message("cannot seal the job token", errno));
  return file;
}

}  // namespace ddp::launcher

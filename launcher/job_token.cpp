#include "launcher/job_token.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <sstream>

#include <ddp/error.h>

namespace ddp::launcher {
namespace {

std::string random_token() {
  std::array<unsigned char, 32> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    throw Error(errno_message("cannot get random bytes for the job token", errno));
  static constexpr char kHex[] = "0123456789abcdef";
  std::string token;
  for (const unsigned char byte : bytes) {
    token += kHex[byte >> 4];
    token += kHex[byte & 15];
  }
  return token;
}

std::string token_from_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file)
    throw ConfigError("DDP_JOB_TOKEN_FILE=" + path + " cannot be read: " + errno_message("open", errno));
  std::string token = text.str();
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.pop_back();
  if (token.empty())
    throw ConfigError("DDP_JOB_TOKEN_FILE=" + path + " is empty: put the job's secret there");
  return token;
}

}  // namespace

std::string job_token(const Options& options, const Environment& environment) {
  if (const auto token = environment.get("DDP_JOB_TOKEN"); token && !token->empty()) return *token;
  if (const auto path = environment.get("DDP_JOB_TOKEN_FILE"); path && !path->empty())
    return token_from_file(*path);
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
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
    throw Error(errno_message("cannot seal the job token", errno));
  return file;
}

}  // namespace ddp::launcher

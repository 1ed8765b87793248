#include "libddp/rendezvous/auth.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include <ddp/error.h>

#include "libddp/core/fd.h"

namespace ddp {
namespace {

constexpr const char* kAdvice =
    " (make one with: head -c 32 /dev/urandom | base64, and give every rank the same)";

void check_length(const std::string& token, const std::string& source) {
  if (token.empty()) throw ConfigError(source + " is set but empty: put the job's secret there" + kAdvice);
  if (token.size() < kShortestToken)
    throw ConfigError(source + " holds a token of " + std::to_string(token.size()) + " bytes; at least " +
                      std::to_string(kShortestToken) + " are needed" + kAdvice);
  if (token.size() > kLongestToken)
    throw ConfigError(source + " holds a token longer than " + std::to_string(kLongestToken) +
                      " bytes: is it the right file?");
}

std::string read_token_file(const std::string& path) {
  const std::string what = "DDP_JOB_TOKEN_FILE='" + path.substr(0, 256) + "' cannot be read";
  // Non-blocking: a FIFO without a writer must not hang the start of a job.
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file)
    throw ConfigError(
        errno_message(what, errno) +
        (path.starts_with("/proc/self/fd/")
             ? ". ddprun handed this descriptor to its worker: a program between the two has closed it "
               "(Python's subprocess needs close_fds=False), or /proc is not mounted"
             : ""));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode))
    throw ConfigError(what +
                      ": it is no file but a folder, pipe or device. Ranks read it one after the other, so "
                      "write the token into a file, or put it into DDP_JOB_TOKEN");
  std::string text(kLongestToken + 3, '\0');  // room for a line end, and for one byte too many
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = ::read(file.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw ConfigError(errno_message(what, errno));
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  text.resize(size);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

}  // namespace

void random_bytes(std::span<std::uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t got = ::getrandom(bytes.data(), bytes.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(errno_message("the kernel gives no random bytes", errno));
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
}

Digest hmac_sha256(std::span<const std::uint8_t> key, std::string_view message) {
  Digest digest{};
  unsigned int size = 0;
  // HMAC() takes a null key for "use the previous one": an empty key needs an address all the same.
  static constexpr std::uint8_t kNothing = 0;
  const void* key_data = key.empty() ? &kNothing : key.data();
  const auto* data = reinterpret_cast<const unsigned char*>(message.data());
  if (HMAC(EVP_sha256(), key_data, static_cast<int>(key.size()), data, message.size(), digest.data(),
           &size) == nullptr ||
      size != digest.size())
    throw Error("OpenSSL cannot compute HMAC-SHA-256");
  return digest;
}

Digest hmac_sha256(std::string_view key, std::string_view message) {
  return hmac_sha256({reinterpret_cast<const std::uint8_t*>(key.data()), key.size()}, message);
}

bool equal_in_constant_time(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::optional<std::string> load_job_token(const EnvLookup& lookup) {
  auto token = lookup("DDP_JOB_TOKEN");
  const auto path = lookup("DDP_JOB_TOKEN_FILE");
  if (token && path)
    throw ConfigError("DDP_JOB_TOKEN and DDP_JOB_TOKEN_FILE are both set: unset one of them");
  if (token) {
    check_length(*token, "DDP_JOB_TOKEN");
    return token;
  }
  if (!path) return std::nullopt;
  if (path->empty()) throw ConfigError("DDP_JOB_TOKEN_FILE is set but empty: give the path of a file");
  std::string text = read_token_file(*path);
  check_length(text, "DDP_JOB_TOKEN_FILE='" + path->substr(0, 256) + "'");
  return text;
}

}  // namespace ddp

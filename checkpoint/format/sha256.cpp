#include "checkpoint/format/sha256.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <array>

#include <ddp/error.h>

namespace ddp::checkpoint {
namespace {

std::string hex(std::span<const unsigned char> bytes) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

void require(int result, const char* call) {
  if (result != 1)
    throw Error(std::string("OpenSSL: ") + call + " failed; is libcrypto of this machine intact?");
}

}  // namespace

struct Sha256::Impl {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(), EVP_MD_CTX_free};
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {
  require(impl_->context != nullptr, "EVP_MD_CTX_new");
  require(EVP_DigestInit_ex(impl_->context.get(), EVP_sha256(), nullptr), "EVP_DigestInit_ex");
}
Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> bytes) {
  require(EVP_DigestUpdate(impl_->context.get(), bytes.data(), bytes.size()), "EVP_DigestUpdate");
}

std::string Sha256::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  require(EVP_DigestFinal_ex(impl_->context.get(), digest.data(), &length), "EVP_DigestFinal_ex");
  return hex(std::span(digest).first(length));
}

std::string sha256(std::string_view text) {
  Sha256 hash;
  hash.update(text);
  return hash.finish();
}

std::string random_hex(std::size_t bytes) {
  std::string raw(bytes, '\0');
  auto* data = reinterpret_cast<unsigned char*>(raw.data());
  require(RAND_bytes(data, static_cast<int>(bytes)), "RAND_bytes");
  return hex({data, bytes});
}

bool is_hex(std::string_view text, std::size_t digits) noexcept {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace ddp::checkpoint

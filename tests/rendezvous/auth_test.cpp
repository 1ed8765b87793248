#include "libddp/rendezvous/auth.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <future>

#include <ddp/error.h>

#include "libddp/core/fd.h"

namespace ddp {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using namespace std::chrono_literals;

const std::string kToken = "correct horse battery staple";

EnvLookup lookup_in(std::map<std::string, std::string> values) {
  return [values = std::move(values)](std::string_view name) -> std::optional<std::string> {
    const auto it = values.find(std::string(name));
    if (it == values.end()) return std::nullopt;
    return it->second;
  };
}

class TokenFile {
 public:
  explicit TokenFile(const std::string& content) {
    const int fd = ::mkstemp(path_.data());
    EXPECT_EQ(::write(fd, content.data(), content.size()), static_cast<ssize_t>(content.size()));
    ::close(fd);
  }
  ~TokenFile() { ::unlink(path_.c_str()); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/ddp-auth-test-XXXXXX";
};

std::string config_error(const EnvLookup& lookup) {
  try {
    (void)load_job_token(lookup);
  } catch (const ConfigError& e) {
    return e.what();
  }
  return "no ConfigError";
}

std::string hex(const Digest& digest) {
  std::string text;
  char two[3];
  for (const auto byte : digest) {
    std::snprintf(two, sizeof two, "%02x", byte);
    text += two;
  }
  return text;
}

TEST(Hmac, AgreesWithRfc4231AndTheEmptyKey) {
  EXPECT_EQ(hex(hmac_sha256("Jefe", "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(hex(hmac_sha256(std::string_view(), "")),
            "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

TEST(RandomBytes, AreNotTwiceTheSame) {
  Digest a{}, b{};
  random_bytes(a);
  random_bytes(b);
  EXPECT_NE(a, b);
  EXPECT_FALSE(equal_in_constant_time(a, b));
  EXPECT_TRUE(equal_in_constant_time(a, a));
}

TEST(JobToken, ComesFromTheVariableOrTheFileOrNowhere) {
  EXPECT_EQ(load_job_token(lookup_in({})), std::nullopt);
  EXPECT_EQ(load_job_token(lookup_in({{"DDP_JOB_TOKEN", kToken}})), kToken);
  const TokenFile file(kToken + "\r\n\n");
  EXPECT_EQ(load_job_token(lookup_in({{"DDP_JOB_TOKEN_FILE", file.path()}})), kToken);
}

TEST(JobToken, MistakesAreConfigErrorsThatNeverShowIt) {
  const TokenFile empty("\n"), tiny("secret"), huge(std::string(5000, 's'));
  EXPECT_THAT(config_error(lookup_in({{"DDP_JOB_TOKEN", ""}})), HasSubstr("DDP_JOB_TOKEN is set but empty"));
  EXPECT_THAT(config_error(lookup_in({{"DDP_JOB_TOKEN", "secret"}})),
              AllOf(HasSubstr("6 bytes"), Not(HasSubstr("secret "))));
  EXPECT_THAT(config_error(lookup_in({{"DDP_JOB_TOKEN", kToken}, {"DDP_JOB_TOKEN_FILE", "/x"}})),
              AllOf(HasSubstr("both"), Not(HasSubstr(kToken))));
  EXPECT_THAT(config_error(lookup_in({{"DDP_JOB_TOKEN_FILE", ""}})), HasSubstr("DDP_JOB_TOKEN_FILE"));
  EXPECT_THAT(config_error(lookup_in({{"DDP_JOB_TOKEN_FILE", "/nowhere/at/all"}})),
              AllOf(HasSubstr("/nowhere/at/all"), HasSubstr("No such file")));
  EXPECT_THAT(config_error(lookup_in({{"DDP_JOB_TOKEN_FILE", "/tmp"}})), HasSubstr("no file but a folder"));
  EXPECT_THAT(config_error(lookup_in({{"DDP_JOB_TOKEN_FILE", empty.path()}})), HasSubstr("empty"));
  EXPECT_THAT(config_error(lookup_in({{"DDP_JOB_TOKEN_FILE", tiny.path()}})),
              AllOf(HasSubstr("6 bytes"), HasSubstr(tiny.path())));
  EXPECT_THAT(config_error(lookup_in({{"DDP_JOB_TOKEN_FILE", huge.path()}})),
              AllOf(HasSubstr("longer than"), Not(HasSubstr("sss"))));
  EXPECT_THAT(config_error(lookup_in({{"DDP_JOB_TOKEN_FILE", "/dev/zero"}})),
              HasSubstr("no file but a folder, pipe or device"));
}

TEST(JobToken, AFifoWithoutAWriterDoesNotHang) {
  const TokenFile file("");
  ::unlink(file.path().c_str());
  ASSERT_EQ(::mkfifo(file.path().c_str(), 0600), 0);
  EXPECT_THAT(config_error(lookup_in({{"DDP_JOB_TOKEN_FILE", file.path()}})), HasSubstr("pipe"));
}

struct SocketPair {
  FileDescriptor client, server;
};

SocketPair socket_pair(int flags) {
  int fds[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0, fds), 0);
  return {FileDescriptor(fds[0]), FileDescriptor(fds[1])};
}

/// The kind of error each side throws; kError: none.
struct Outcome {
  std::string client, server;
};

std::string attempt(const std::function<void()>& side) {
  try {
    side();
    return "ok";
  } catch (const Error& e) {
    return to_string(e.kind());
  }
}

Outcome meet(int flags, const std::string& client_token, const std::string& server_token,
             const std::string& client_purpose = "x", const std::string& server_purpose = "x") {
  const SocketPair pair = socket_pair(flags);
  auto server = std::async(std::launch::async, [&] {
    return attempt(
        [&] { authenticate_server(pair.server.get(), server_token, server_purpose, Deadline::in(20s)); });
  });
  const std::string client = attempt(
      [&] { authenticate_client(pair.client.get(), client_token, client_purpose, Deadline::in(20s)); });
  return {client, server.get()};
}

TEST(Authenticate, TheSameTokenIsAcceptedOnBlockingAndNonBlockingSockets) {
  for (const int flags : {0, static_cast<int>(SOCK_NONBLOCK)})
    for (const std::string& token : {kToken, std::string()}) {
      const Outcome outcome = meet(flags, token, token);
      EXPECT_EQ(outcome.client, "ok");
      EXPECT_EQ(outcome.server, "ok");
    }
}

TEST(Authenticate, DifferencesAreErrorsOnBothSides) {
  for (const int flags : {0, static_cast<int>(SOCK_NONBLOCK)}) {
    const Outcome token = meet(flags, kToken, "another horse, another stable");
    EXPECT_EQ(token.client, "RendezvousError");
    EXPECT_EQ(token.server, "RendezvousError");
    const Outcome purpose = meet(flags, kToken, kToken, "mesh/1", "mesh/2");
    EXPECT_EQ(purpose.client, "RendezvousError");
    EXPECT_EQ(purpose.server, "RendezvousError");
    const Outcome missing = meet(flags, kToken, "");
    EXPECT_EQ(missing.client, "ConfigError");
    EXPECT_EQ(missing.server, "ConfigError");
  }
}

TEST(Authenticate, LeavesTheBytesBehindTheHandshakeInTheSocket) {
  const SocketPair pair = socket_pair(0);
  auto server = std::async(std::launch::async, [&] {
    authenticate_server(pair.server.get(), kToken, "x", Deadline::in(20s));
    EXPECT_EQ(::write(pair.server.get(), "next", 4), 4);
  });
  authenticate_client(pair.client.get(), kToken, "x", Deadline::in(20s));
  char next[5] = {};
  EXPECT_EQ(::recv(pair.client.get(), next, 4, MSG_WAITALL), 4);
  EXPECT_STREQ(next, "next");
  server.get();
}

TEST(Authenticate, ASilentPeerIsATimeoutAtTheDeadline) {
  const SocketPair pair = socket_pair(0);
  EXPECT_THROW(authenticate_client(pair.client.get(), kToken, "x", Deadline::in(20ms)), TimeoutError);
  // The hello of the client that gave up is answered, then no proof comes.
  EXPECT_THROW(authenticate_server(pair.server.get(), kToken, "x", Deadline::in(20ms)), TimeoutError);
}

TEST(Authenticate, ASlowPeerThatTricklesBytesStillMeetsTheDeadline) {
  const SocketPair pair = socket_pair(0);
  ASSERT_EQ(::write(pair.client.get(), "ddpH", 4), 4);
  EXPECT_THROW(authenticate_server(pair.server.get(), kToken, "x", Deadline::in(30ms)), TimeoutError);
}

TEST(Authenticate, AClosedPeerIsAPeerFailureAndNoSignal) {
  SocketPair pair = socket_pair(0);
  pair.server.reset();
  EXPECT_THROW(authenticate_client(pair.client.get(), kToken, "x", Deadline::in(20s)), PeerFailure);
  SocketPair other = socket_pair(0);
  other.client.reset();
  EXPECT_THROW(authenticate_server(other.server.get(), kToken, "x", Deadline::in(20s)), PeerFailure);
}

TEST(Authenticate, GarbageIsRefusedAtOnce) {
  const SocketPair pair = socket_pair(0);
  const std::string http = "GET /metrics HTTP/1.1\r\nHost: node-0:29500\r\n\r\n";
  ASSERT_EQ(::write(pair.client.get(), http.data(), http.size()), static_cast<ssize_t>(http.size()));
  EXPECT_THROW(authenticate_server(pair.server.get(), kToken, "x", Deadline::in(20s)), RendezvousError);
}

}  // namespace
}  // namespace ddp

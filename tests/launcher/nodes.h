// Several ddpruns as the nodes of one job on this machine.
//
//   Nodes nodes(2, {"--max-restarts=1"});
//   auto zero = nodes.start(0, {"sh", "-c", "..."});
//   auto one = nodes.start(1, {"sh", "-c", "..."});
//   EXPECT_EQ(zero->wait(), 0);
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "launcher/free_port.h"
#include "tests/launcher/ddprun_process.h"

namespace ddp::testing {

class Nodes {
 public:
  explicit Nodes(int count, std::vector<std::string> options = {})
      : count_(count), options_(std::move(options)) {
    setup.environment["DDP_JOB_TOKEN"] = "the token of a test of ddprun";
  }

  /// `more`: options of this node alone.
  [[nodiscard]] std::unique_ptr<DdprunProcess> start(int rank, const std::vector<std::string>& program,
                                                     const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {"--nnodes=" + std::to_string(count_),
                                      "--node-rank=" + std::to_string(rank), "--master-addr=" + address,
                                      "--master-port=" + std::to_string(port_)};
    words.insert(words.end(), options_.begin(), options_.end());
    words.insert(words.end(), more.begin(), more.end());
    words.insert(words.end(), program.begin(), program.end());
    return std::make_unique<DdprunProcess>(words, setup);
  }

  [[nodiscard]] std::uint16_t port() const { return port_; }

  ProcessSetup setup;                 ///< of the nodes started from now on
  std::string address = "127.0.0.1";  ///< of node 0

 private:
  int count_;
  std::vector<std::string> options_;
  std::uint16_t port_ = launcher::free_port();
};

/// Says "rank 3 attempt 1" and then: in the attempt `last` it succeeds, before that it runs until it is ended.
[[nodiscard]] inline std::vector<std::string> until_attempt(int last) {
  return {"sh", "-c",
          "echo rank $RANK attempt $TORCHELASTIC_RESTART_COUNT; [ $TORCHELASTIC_RESTART_COUNT = " +
              std::to_string(last) + " ] || exec sleep 1000"};
}

[[nodiscard]] inline std::string says(int rank, int attempt) {
  return "rank " + std::to_string(rank) + " attempt " + std::to_string(attempt) + "\n";
}

}  // namespace ddp::testing

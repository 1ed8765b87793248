// What ddprun starts in tests: launcher_test_worker MODE [ARGUMENTS]. Torch-free; exits 0 when all went well.
//
//   join FAILING  join the job by libddp, meet all ranks in its store, say "rank 1 of 2 attempt 0"; in attempts
//                 below FAILING rank 0 then returns 7. Fails when the store shows traces of another attempt.
//   lines N       N numbered lines of many lengths on stdout, in pieces that respect no line
//   ignore        ignores SIGTERM and SIGINT, says "ready", runs until it is killed
//   tell          says "ready"; says the name of each of SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2
//                 as it comes, and returns 5 at "SIGTERM"
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>

#include <ddp/cluster_env.h>
#include <ddp/error.h>
#include <ddp/rendezvous.h>

namespace {

constexpr int kWrong = 99;

void write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) std::_Exit(kWrong);
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

int join(int failing) {
  const auto env = ddp::ClusterEnv::from_environment();
  const auto store = ddp::join_job(env, {.timeout = std::chrono::minutes(2)});
  const auto deadline = ddp::Deadline::in(std::chrono::minutes(2));
  const auto group = ddp::make_store_group(store, env.rank, env.world_size);
  (void)group->exchange("here", deadline);
  // Every rank counts itself once: more would be another attempt's doing.
  if (store->add("ranks", 1, deadline) > env.world_size) return kWrong;
  (void)group->exchange("counted", deadline);
  if (store->add("ranks", 0, deadline) != env.world_size) return kWrong;
  write_all("rank " + std::to_string(env.rank) + " of " + std::to_string(env.world_size) + " attempt " +
            std::to_string(env.restart_count) + "\n");
  (void)group->exchange("said", deadline);
  return env.rank == 0 && env.restart_count < failing ? 7 : 0;
}

int lines(int count) {
  const std::string rank = ddp::read_environment("RANK").value_or("?");
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += rank + " " + std::to_string(i) + " " + std::string(static_cast<std::size_t>(i * 37 % 301), 'x') +
            "\n";
    for (; text.size() > 997; text.erase(0, 997)) write_all(text.substr(0, 997));
  }
  write_all(text);
  return 0;
}

sigset_t watched() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2}) sigaddset(&set, signal);
  return set;
}

int tell() {
  const sigset_t set = watched();
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  write_all("ready\n");
  for (int signal = 0; ::sigwait(&set, &signal) == 0;) {
    write_all("got SIG" + std::string(::sigabbrev_np(signal)) + "\n");
    if (signal == SIGTERM) return 5;
  }
  return kWrong;
}

int ignore() {
  ::signal(SIGTERM, SIG_IGN);
  ::signal(SIGINT, SIG_IGN);
  write_all("ready\n");
  for (;;) ::pause();
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  const int number = argc > 2 ? std::atoi(argv[2]) : 0;
  try {
    if (mode == "join") return join(number);
    if (mode == "lines") return lines(number);
    if (mode == "tell") return tell();
    if (mode == "ignore") return ignore();
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
  }
  return kWrong;
}

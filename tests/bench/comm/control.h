// A benchmark worker's end of the connection to the driver (bench_comm.py).
//
// The driver listens on a Unix socket. Every rank of every side connects and says "hello RANK"; then the driver sends one
// line a measurement, "run MODE BYTES ITERATIONS", and each rank answers "seconds S" (of its timed loop) or "error TEXT".
// Ranks that wait for a line sleep, so the sides do not disturb each other. End of file: the worker exits.
//
//   Control control(argv[1], rank);
//   while (const auto run = control.next()) control.answer(measure(*run));
//
// One thread.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>

namespace bench {

struct Run {
  std::string mode;
  std::size_t bytes = 0;
  int iterations = 0;
  /// Not timed; first of all they wake the ranks up and fill the caches.
  [[nodiscard]] int warm_ups() const { return iterations / 10 + 1; }
};

class Control {
 public:
  Control(const std::string& path, int rank) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      throw std::runtime_error("cannot reach the driver at " + path + ": " + std::strerror(errno));
    send("hello " + std::to_string(rank));
  }
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;
  ~Control() { ::close(fd_); }

  /// The next measurement; nullopt when the driver has no more or is gone.
  [[nodiscard]] std::optional<Run> next() const {
    std::string line;
    for (char c = 0; ::read(fd_, &c, 1) == 1;) {
      if (c != '\n') {
        line += c;
        continue;
      }
      std::istringstream words(line);
      std::string verb;
      Run run;
      if (!(words >> verb >> run.mode >> run.bytes >> run.iterations) || verb != "run")
        throw std::runtime_error("the driver sent '" + line + "'");
      return run;
    }
    return std::nullopt;
  }
  void answer(double seconds) const {
    std::ostringstream text;
    text.precision(9);
    text << "seconds " << seconds;
    send(text.str());
  }
  void error(std::string text) const {
    for (char& c : text)
      if (c == '\n') c = ' ';
    send("error " + text);
  }

 private:
  void send(std::string line) const {
    line += '\n';
    if (::send(fd_, line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size()))
      throw std::runtime_error("the driver is gone");
  }
  int fd_;
};

/// Every side is given the same numbers: whole, so that their sum is exact in any order.
inline float pattern(std::size_t i, int rank) {
  return static_cast<float>((i + 7 * static_cast<std::size_t>(rank)) % 1021);
}
inline void fill(float* data, std::size_t count, int rank) {
  for (std::size_t i = 0; i < count; ++i) data[i] = pattern(i, rank);
}
/// Throws when `data` is not the sum over `ranks` ranks of what fill() wrote.
inline void check_sum(const float* data, std::size_t count, int ranks) {
  for (std::size_t i = 0; i < count; ++i) {
    float sum = 0;
    for (int r = 0; r < ranks; ++r) sum += pattern(i, r);
    if (data[i] != sum)
      throw std::runtime_error("wrong sum at element " + std::to_string(i) + ": " + std::to_string(data[i]) +
                               ", expected " + std::to_string(sum));
  }
}

/// Seconds of `iterations` calls after some untimed ones; `barrier` starts all ranks together.
template <class Barrier, class Call>
double time_loop(const Run& run, const Barrier& barrier, const Call& call) {
  for (int i = 0; i < run.warm_ups(); ++i) call();
  barrier();
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < run.iterations; ++i) call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace bench

#include "tests/launcher/ddprun_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include <ddp/deadline.h>

#include "libddp/core/fd.h"

namespace ddp::testing {
namespace {

constexpr const char* kMark = "DDPRUN_TEST_MARK";
/// How often what cannot be waited for is looked at.
constexpr std::chrono::milliseconds kLook{5};

std::string new_mark() {
  static std::atomic<int> count{0};
  return std::to_string(::getpid()) + "." + std::to_string(count.fetch_add(1)) + "." +
         std::to_string(Clock::now().time_since_epoch().count());
}

std::vector<std::string> environment_of(const ProcessSetup& setup, const std::string& mark) {
  std::vector<std::string> result{std::string(kMark) + "=" + mark};
  for (const char* name : {"PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "ASAN_OPTIONS", "LSAN_OPTIONS",
                           "TSAN_OPTIONS", "UBSAN_OPTIONS"})
    if (const char* value = std::getenv(name); value != nullptr && setup.environment.count(name) == 0)
      result.push_back(std::string(name) + "=" + value);
  for (const auto& [name, value] : setup.environment) result.push_back(name + "=" + value);
  return result;
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (const auto& text : strings) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

struct Pipe {
  FileDescriptor read, write;
};

Pipe make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2 failed");
  return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

FileDescriptor input_file(const std::string& text) {
  FileDescriptor file(::memfd_create("input", MFD_CLOEXEC));
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    throw std::runtime_error("cannot write the input");
  ::lseek(file.get(), 0, SEEK_SET);
  return file;
}

}  // namespace

std::string proc_file(pid_t pid, const std::string& name) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/" + name, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++found;
  return found;
}

DdprunProcess::DdprunProcess(std::vector<std::string> arguments, ProcessSetup setup) : mark_(new_mark()) {
  std::vector<std::string> words = setup.wrapper;
  words.push_back(DDPRUN);
  words.insert(words.end(), arguments.begin(), arguments.end());
  start(words, setup);
}

void DdprunProcess::start(const std::vector<std::string>& words, const ProcessSetup& setup) {
  Pipe out = make_pipe(), err = make_pipe();
  const FileDescriptor in = input_file(setup.input);
  const auto environment = environment_of(setup, mark_);
  const auto argv = pointers(words);
  const auto envp = pointers(environment);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::dup2(in.get(), 0);
    ::dup2(out.write.get(), 1);
    ::dup2(err.write.get(), 2);
    if (setup.in_child) setup.in_child();
    ::execvpe(argv[0], argv.data(), envp.data());
    ::_exit(98);
  }
  out_reader_ = std::thread([this, fd = std::move(out.read)] { read(fd.get(), out_); });
  err_reader_ = std::thread([this, fd = std::move(err.read)] { read(fd.get(), err_); });
}

DdprunProcess::~DdprunProcess() {
  if (!reaped_) {
    ::kill(pid_, SIGKILL);
    (void)::waitpid(pid_, nullptr, 0);
  }
  for (const Deadline deadline = Deadline::in(kPatience); !nothing_left() && !deadline.passed();)
    for (const pid_t left : alive()) ::kill(left, SIGKILL);
  out_reader_.join();
  err_reader_.join();
}

void DdprunProcess::read(int fd, std::string& into) {
  std::array<char, 65536> buffer{};
  for (ssize_t n = 0; (n = ::read(fd, buffer.data(), buffer.size())) > 0 || (n < 0 && errno == EINTR);) {
    const std::scoped_lock lock(mutex_);
    if (n > 0) into.append(buffer.data(), static_cast<std::size_t>(n));
    changed_.notify_all();
  }
  const std::scoped_lock lock(mutex_);
  --open_streams_;
  changed_.notify_all();
}

void DdprunProcess::signal(int number) const {
  ::kill(pid_, number);
}

bool DdprunProcess::saw(const std::string& text, int times) {
  std::unique_lock lock(mutex_);
  const auto there = [&] { return count(out_, text) + count(err_, text) >= times; };
  changed_.wait_until(lock, Deadline::in(kPatience).at(), [&] { return there() || open_streams_ == 0; });
  return there();
}

int DdprunProcess::wait() {
  for (const Deadline deadline = Deadline::in(kPatience); !reaped_; std::this_thread::sleep_for(kLook)) {
    if (::waitpid(pid_, &status_, WNOHANG) == pid_) reaped_ = true;
    if (!reaped_ && deadline.passed()) return -1;
  }
  // Whoever still holds the pipes is a leftover, which is for the test to find.
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, Deadline::in(std::chrono::seconds(10)).at(), [&] { return open_streams_ == 0; });
  return WIFSIGNALED(status_) ? 128 + WTERMSIG(status_) : WEXITSTATUS(status_);
}

std::string DdprunProcess::out() {
  const std::scoped_lock lock(mutex_);
  return out_;
}

std::string DdprunProcess::err() {
  const std::scoped_lock lock(mutex_);
  return err_;
}

std::set<pid_t> DdprunProcess::alive() const {
  return alive("");
}

std::set<pid_t> DdprunProcess::alive(const std::string& text) const {
  std::set<pid_t> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const auto pid = static_cast<pid_t>(std::stol(name));
    if (pid == ::getpid()) continue;
    // A zombie has no environment any more.
    if (proc_file(pid, "environ").find(std::string(kMark) + "=" + mark_) == std::string::npos) continue;
    if (text.empty() || proc_file(pid, "cmdline").find(text) != std::string::npos) found.insert(pid);
  }
  return found;
}

bool DdprunProcess::nothing_left_soon() const {
  for (const Deadline deadline = Deadline::in(kPatience); !nothing_left(); std::this_thread::sleep_for(kLook))
    if (deadline.passed()) return false;
  return true;
}

}  // namespace ddp::testing

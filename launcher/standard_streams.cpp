#include "launcher/standard_streams.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace ddp::launcher {

void open_standard_streams() {
  for (int fd = 0; fd <= 2; ++fd)
    // open() takes the lowest free number, which is this one.
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF && ::open("/dev/null", O_RDWR) != fd) ::_exit(1);
}

rlimit raise_descriptor_limit() {
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const rlimit raised{before.rlim_max, before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &raised);  // if refused, the old one stays
  return before;
}

}  // namespace ddp::launcher

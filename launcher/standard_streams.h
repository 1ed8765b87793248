// What main() does about descriptors before anything else.
#pragma once

#include <sys/resource.h>

namespace ddp::launcher {

/// Opens /dev/null in place of each of the descriptors 0 to 2 that is closed: otherwise the first file that is
/// opened becomes standard output.
void open_standard_streams();

/// Raises this process's limit of open files as far as it may; returns what it was, which is what workers get.
[[nodiscard]] rlimit raise_descriptor_limit();

}  // namespace ddp::launcher

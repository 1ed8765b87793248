// Which file a program's name means: what a shell does with PATH, and nothing else.
//
// execvp() would do, but it runs whatever is not a program, even an empty file, as a shell script: a damaged
// binary would then count as a success.
#pragma once

#include <string>
#include <string_view>

namespace ddp::launcher {

struct FoundProgram {
  std::string file;  ///< what to execute; empty: see `error`
  int error = 0;     ///< ENOENT; EACCES: not executable; EISDIR: a folder
};

/// A name with a slash is a path; others are looked up in `path` (folders separated by colons).
[[nodiscard]] FoundProgram find_program(const std::string& name, std::string_view path);

}  // namespace ddp::launcher

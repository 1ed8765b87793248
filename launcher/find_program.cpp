#include "launcher/find_program.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace ddp::launcher {
namespace {

/// 0 when `file` can be executed.
int why_not(const std::string& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return errno == ENOTDIR ? ENOENT : errno;
  if (S_ISDIR(status.st_mode)) return EISDIR;
  return ::access(file.c_str(), X_OK) == 0 ? 0 : EACCES;
}

}  // namespace

FoundProgram find_program(const std::string& name, std::string_view path) {
  if (name.find('/') != std::string::npos) {
    const int error = why_not(name);
    return error == 0 ? FoundProgram{name, 0} : FoundProgram{"", error};
  }
  int error = ENOENT;
  for (std::size_t begin = 0; begin <= path.size();) {
    const auto end = std::min(path.find(':', begin), path.size());
    const std::string folder(path.substr(begin, end - begin));  // an empty one means the current folder
    const std::string file = folder.empty() ? "./" + name : folder + "/" + name;
    const int reason = why_not(file);
    if (reason == 0) return {file, 0};
    if (reason == EACCES) error = EACCES;  // remember it: a later folder may have it, or not
    begin = end + 1;
  }
  return {"", error};
}

}  // namespace ddp::launcher

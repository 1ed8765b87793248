#include <cstdio>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <ddp/error.h>

#include "launcher/agent.h"
#include "launcher/node.h"
#include "launcher/options.h"
#include "launcher/standard_streams.h"

namespace {

constexpr int kBadOptions = 2;

int fail(const std::exception& error, int code) {
  std::fprintf(stderr, "ddprun: %s\n", error.what());
  return code;
}

int print(const std::string& text) {
  return std::cout << text << std::flush ? 0
                                         : fail(std::runtime_error("standard output cannot be written"), 1);
}

}  // namespace

int main(int argc, char** argv, char** envp) {
  ddp::launcher::open_standard_streams();
  try {
    const auto environment = ddp::launcher::Environment::from_envp(envp);
    const auto options =
        ddp::launcher::parse_options({argv, argv + argc}, environment, ddp::launcher::usable_cpus);
    if (options.help) return print(ddp::launcher::help_text());
    if (options.version) return print("ddprun " DDP_VERSION "\n");
    const int code = ddp::launcher::run_agent(options, environment);
    return options.dry_run ? print("") : code;
  } catch (const ddp::ConfigError& error) {
    return fail(error, kBadOptions);
  } catch (const std::exception& error) {
    return fail(error, 1);
  }
}

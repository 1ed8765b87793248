#include <cstdio>
#include <exception>
#include <iostream>
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

}  // namespace

int main(int argc, char** argv, char** envp) {
  ddp::launcher::open_standard_streams();
  try {
    const auto environment = ddp::launcher::Environment::from_envp(envp);
    const auto options =
        ddp::launcher::parse_options({argv, argv + argc}, environment, ddp::launcher::usable_cpus);
    if (options.help) return std::cout << ddp::launcher::help_text(), 0;
    if (options.version) return std::cout << "ddprun " DDP_VERSION "\n", 0;
    return ddp::launcher::run_agent(options, environment);
  } catch (const ddp::ConfigError& error) {
    return fail(error, kBadOptions);
  } catch (const std::exception& error) {
    return fail(error, 1);
  }
}

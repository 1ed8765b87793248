// What main() returns, so that whoever started the program knows whether to start it again.
//
//   catch (const std::exception& error) {
//     std::cerr << error.what() << '\n';
//     return ddp::exit_code(error);
//   }
#pragma once

#include <exception>

namespace ddp {

/// Stopped on request, and saved: start it again to go on. 128 + SIGTERM, which PyTorchJob's ExitCode policy retries.
inline constexpr int kExitPreempted = 143;
/// Starting it again would not help, or would harm the job that took over: EX_CONFIG of sysexits.h, "configuration
/// error". ddprun does not restart workers that return it, and PyTorchJob's ExitCode policy neither.
inline constexpr int kExitDoNotRestart = 78;

/// kExitDoNotRestart for ConfigError, FencedOut and CorruptCheckpoint, 1 for everything else.
[[nodiscard]] int exit_code(const std::exception& error) noexcept;

}  // namespace ddp

// gpt: trains a small GPT on text with libddp. See options.cpp for what it can be told, trainer.cpp for the loop.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <thread>

#include <c10/util/Exception.h>
#include <ddp/ddp.h>
#include <ddp/error.h>
#include <ddp/exit_code.h>

#include "examples/gpt/options.h"
#include "examples/gpt/trainer.h"

namespace {

int fail(const char* what, int code) {
  std::fflush(stdout);
  std::fprintf(stderr, "gpt: %s\n", what);
  return code;
}

/// Ranks of one machine share its cores.
void divide_cores(int threads, const ddp::ClusterEnv& env) {
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  at::set_num_threads(threads > 0 ? threads : std::max(1, cores / env.local_world_size));
}

int train(const gpt::Options& options) {
  const auto timeout = std::chrono::milliseconds(static_cast<long>(options.timeout_seconds * 1000));
  const ddp::Context context =
      ddp::init({.device = options.device,
                 .backend = options.backend == "auto" ? "" : options.backend,  // "": DDP_BACKEND may say
                 .reproducible = options.reproducible,
                 .init_timeout = std::min<std::chrono::nanoseconds>(timeout, std::chrono::minutes(5)),
                 .timeout = timeout});
  divide_cores(options.threads, context.env());
  if (options.sample_only) return gpt::write_sample_of_checkpoint(options, context), 0;
  return gpt::Trainer(options, context).run();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const auto options = gpt::parse(argc, argv);
    const int code = options ? train(*options) : 0;
    // Who redirected the output to a full disk would otherwise believe that nothing was said.
    return std::fflush(stdout) == 0 && std::ferror(stdout) == 0
               ? code
               : fail("standard output could not be written", 1);
  } catch (const c10::Error& error) {
    return fail(error.what_without_backtrace(), 1);
  } catch (const std::exception& error) {
    return fail(error.what(), ddp::exit_code(error));
  }
}

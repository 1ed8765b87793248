#include <ddp/checkpoint/checkpointer.h>
#include <ddp/ddp.h>
#include <torch/torch.h>

int main() try {
  ddp::Context context = ddp::init();  // ddprun, torchrun, mpirun, Slurm, a PyTorchJob pod, or nothing
  torch::manual_seed(1);
  torch::nn::Sequential model(torch::nn::Linear(2, 32), torch::nn::Tanh(), torch::nn::Linear(32, 1));
  ddp::DistributedDataParallel<torch::nn::Sequential> parallel(model, context);
  torch::optim::AdamW optimizer(model->parameters(), 1e-2);
  auto inputs = torch::rand({1000, 2}) * 2 - 1;
  auto targets = inputs.prod(1, true);
  ddp::data::ResumableSampler sampler(inputs.size(0), context);
  ddp::checkpoint::Checkpointer checkpointer(context, "runs/quickstart", {.every_steps = 100, .keep = 2});
  ddp::checkpoint::State state{
      {"model", model}, {"optimizer", optimizer}, {"sampler", sampler}, {"buckets", parallel}};
  for (int64_t step = checkpointer.restore(state); step < 500; ++step) {
    auto index = torch::tensor(sampler.next(20));
    if (sampler.position() == sampler.samples_per_epoch()) sampler.start_epoch(sampler.epoch() + 1);
    optimizer.zero_grad();
    auto loss = torch::mse_loss(parallel.forward(inputs.index({index})), targets.index({index}));
    loss.backward();  // gradients are averaged over ranks meanwhile
    optimizer.step();
    if (context.rank() == 0 && step % 100 == 0)
      std::cout << "step " << step << ": loss " << loss.item<float>() << '\n';
    if (checkpointer.after_step(step, state).should_stop()) return ddp::kExitPreempted;
  }
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return ddp::exit_code(error);
}

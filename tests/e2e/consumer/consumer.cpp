// Everything a user includes, in one program: the umbrella header, and the checkpoint library's.
#include <ddp/checkpoint/checkpointer.h>
#include <ddp/ddp.h>
#include <torch/torch.h>

#include <cstdio>

int main() {
  ddp::Context context = ddp::init();
  torch::nn::Linear model(3, 1);
  ddp::DistributedDataParallel<torch::nn::Linear> parallel(model, context);
  torch::optim::SGD optimizer(model->parameters(), 0.1);
  parallel.forward(torch::ones({2, 3})).sum().backward();
  optimizer.step();
  ddp::checkpoint::Checkpointer checkpointer(context, "checkpoints");
  ddp::checkpoint::State state{{"model", model}, {"optimizer", optimizer}};
  checkpointer.save(0, state);
  std::printf("gradient %g on rank %d of %d\n", model->weight.grad()[0][0].item<double>(), context.rank(),
              context.world_size());
}

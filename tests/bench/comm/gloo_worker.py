"""A rank of Gloo's side: gloo_worker.py SOCKET, through torch.distributed; RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT say who it is.
Speaks the protocol of control.h."""
import os
import socket
import sys
import time

import torch
import torch.distributed as dist


def pattern(count, rank):
    return ((torch.arange(count) + 7 * rank) % 1021).float()


class Worker:
    def __init__(self):
        torch.set_num_threads(1)
        dist.init_process_group("gloo")
        self.memory = {}

    def buffer_of(self, size):
        """Verified when it is new, zeros afterwards."""
        if size not in self.memory:
            count = size // 4
            data = pattern(count, dist.get_rank())
            dist.all_reduce(data)
            if not torch.equal(data, sum(pattern(count, r) for r in range(dist.get_world_size()))):
                raise RuntimeError("wrong sum")
            self.memory[size] = data.zero_()
        return self.memory[size]

    def measure(self, size, iterations):
        data = self.buffer_of(size)
        for _ in range(iterations // 10 + 1):
            dist.all_reduce(data)
        dist.barrier()
        begin = time.perf_counter()
        for _ in range(iterations):
            dist.all_reduce(data)
        return time.perf_counter() - begin


def main():
    worker = Worker()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sys.argv[1])
    lines = connection.makefile("rw")
    print("hello", dist.get_rank(), file=lines, flush=True)
    for line in lines:
        _, _, size, iterations = line.split()
        try:
            print("seconds", repr(worker.measure(int(size), int(iterations))), file=lines, flush=True)
        except Exception as error:  # the driver shows it
            print("error", str(error).replace("\n", " "), file=lines, flush=True)
    os._exit(0)  # no farewell between ranks


main()

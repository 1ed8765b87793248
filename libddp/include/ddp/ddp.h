// Everything a training program needs. Checkpoints have a header of their own: ddp/checkpoint/checkpointer.h.
#pragma once

#include <ddp/cluster_env.h>
#include <ddp/collectives.h>
#include <ddp/communicator.h>
#include <ddp/context.h>
#include <ddp/data/resumable_sampler.h>
#include <ddp/deadline.h>
#include <ddp/distributed_data_parallel.h>
#include <ddp/error.h>
#include <ddp/exit_code.h>
#include <ddp/init.h>
#include <ddp/log.h>

#define DDP_KERNELS kBaselineKernels
#include "libddp/comm/host/reduce_kernels_impl.h"

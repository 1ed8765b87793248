#define DDP_KERNELS kBaselineKernels
#include "libddp/comm/kernels/reduce_kernels_impl.h"

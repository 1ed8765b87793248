#define DDP_KERNELS kAvx2Kernels
#include "libddp/comm/kernels/reduce_kernels_impl.h"

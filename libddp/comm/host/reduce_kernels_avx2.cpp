#define DDP_KERNELS kAvx2Kernels
#include "libddp/comm/host/reduce_kernels_impl.h"

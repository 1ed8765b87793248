#define DDP_KERNELS kAvx512Kernels
#include "libddp/comm/host/reduce_kernels_impl.h"

#define DDP_KERNELS kAvx512Kernels
#include "libddp/comm/kernels/reduce_kernels_impl.h"

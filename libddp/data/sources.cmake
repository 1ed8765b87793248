# Sources of libddp/data; part of ddp::ddp.
set(DDP_DATA_SOURCES ${PROJECT_SOURCE_DIR}/libddp/data/resumable_sampler.cpp)

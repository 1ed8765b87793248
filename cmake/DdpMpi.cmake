# Open MPI (or another MPI) for benchmarks and tests under mpirun; the libraries never need it. Sets DDP_WITH_MPI; MPI::MPI_CXX and
# MPIEXEC_EXECUTABLE come from FindMPI.
set(DDP_MPI "AUTO" CACHE STRING "Use MPI in benchmarks and tests: ON, OFF or AUTO (ON when it is found)")
set_property(CACHE DDP_MPI PROPERTY STRINGS AUTO ON OFF)
set(DDP_WITH_MPI OFF)
if(DDP_MPI STREQUAL "AUTO" OR DDP_MPI)
  set(MPI_CXX_SKIP_MPICXX ON)  # the C interface is enough
  if(DDP_MPI STREQUAL "AUTO")
    find_package(MPI QUIET COMPONENTS CXX)
  else()
    find_package(MPI REQUIRED COMPONENTS CXX)
  endif()
  set(DDP_WITH_MPI ${MPI_CXX_FOUND})
endif()

# FindLibTorch: LibTorch from a pip wheel or a libtorch folder, without the wheel's own TorchConfig.cmake, which refuses to work without
# a CUDA toolkit, fails in its GPU detection with CUDA 13 and CMake 3.25, and links libtorch_cuda into everything.
#
# Looks in, first match wins: -DLIBTORCH_DIR / $LIBTORCH_DIR, CMAKE_PREFIX_PATH, the active Python environment, .deps/python (what
# `make setup` installs). Makes:
#   LibTorch::torch        headers, libtorch_cpu, libc10; no CUDA library is loaded by a program linked to it
#   LibTorch_ROOT_FOUND    the folder with include/ and lib/;  LibTorch_VERSION;  LibTorch_PYTHON  the interpreter that owns it, or empty
set(_candidates "${LIBTORCH_DIR}" "$ENV{LIBTORCH_DIR}")
string(REPLACE ":" ";" _environment_prefixes "$ENV{CMAKE_PREFIX_PATH}")
foreach(_prefix IN LISTS CMAKE_PREFIX_PATH _environment_prefixes)
  list(APPEND _candidates "${_prefix}" "${_prefix}/torch" "${_prefix}/../..")
endforeach()
file(GLOB _venv LIST_DIRECTORIES true "$ENV{VIRTUAL_ENV}/lib/python3*/site-packages/torch" "$ENV{CONDA_PREFIX}/lib/python3*/site-packages/torch"
     "${CMAKE_CURRENT_LIST_DIR}/../.deps/python/lib/python3*/site-packages/torch")
list(APPEND _candidates ${_venv})

set(LibTorch_ROOT_FOUND "")
foreach(_candidate IN LISTS _candidates)
  if(_candidate AND EXISTS "${_candidate}/include/ATen/ATen.h" AND EXISTS "${_candidate}/lib/libtorch_cpu.so")
    get_filename_component(LibTorch_ROOT_FOUND "${_candidate}" ABSOLUTE)
    break()
  endif()
endforeach()

set(LibTorch_VERSION "")
set(LibTorch_PYTHON "")
if(LibTorch_ROOT_FOUND)
  set(_version_h "${LibTorch_ROOT_FOUND}/include/torch/headeronly/version.h")
  if(NOT EXISTS "${_version_h}")
    set(_version_h "${LibTorch_ROOT_FOUND}/include/torch/csrc/api/include/torch/version.h")
  endif()
  foreach(_part MAJOR MINOR PATCH)
    file(STRINGS "${_version_h}" _line REGEX "define TORCH_VERSION_${_part} [0-9]+$")
    string(REGEX MATCH "[0-9]+$" _number "${_line}")
    list(APPEND LibTorch_VERSION "${_number}")
  endforeach()
  string(REPLACE ";" "." LibTorch_VERSION "${LibTorch_VERSION}")
  get_filename_component(_bin "${LibTorch_ROOT_FOUND}/../../../../bin" ABSOLUTE)
  if(EXISTS "${_bin}/python3")
    set(LibTorch_PYTHON "${_bin}/python3")
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS LibTorch_ROOT_FOUND VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "run `make setup`, or set LIBTORCH_DIR to a folder with include/ and lib/libtorch_cpu.so")

if(LibTorch_FOUND AND NOT TARGET LibTorch::torch)
  foreach(_lib c10 torch_cpu)
    add_library(LibTorch::${_lib} SHARED IMPORTED)
    set_target_properties(LibTorch::${_lib} PROPERTIES IMPORTED_LOCATION "${LibTorch_ROOT_FOUND}/lib/lib${_lib}.so")
  endforeach()
  # libtorch_cpu of a CUDA wheel needs small CUDA libraries of sibling wheels, which it finds by its own rpath at run time.
  add_library(LibTorch::torch INTERFACE IMPORTED)
  set_target_properties(LibTorch::torch PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${LibTorch_ROOT_FOUND}/include;${LibTorch_ROOT_FOUND}/include/torch/csrc/api/include"
    INTERFACE_LINK_LIBRARIES "LibTorch::torch_cpu;LibTorch::c10"
    INTERFACE_LINK_OPTIONS "LINKER:--allow-shlib-undefined;LINKER:-rpath,${LibTorch_ROOT_FOUND}/lib")
endif()

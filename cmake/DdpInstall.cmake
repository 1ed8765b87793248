# What `cmake --install` brings besides targets and headers: the package config that find_package(ddp) reads, FindLibTorch for it, and
# pkg-config files. A program links ddp::ddp, ddp::checkpoint, or the torch-free ddp::core and ddp::comm.
include(CMakePackageConfigHelpers)
set(_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/ddp")

if(DDP_TORCH)
  find_package(LibTorch REQUIRED)
endif()
configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/ddpConfig.cmake.in" "${PROJECT_BINARY_DIR}/ddpConfig.cmake"
  INSTALL_DESTINATION "${_cmake_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/ddpConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(EXPORT ddpTargets NAMESPACE ddp:: DESTINATION "${_cmake_dir}")
install(FILES "${PROJECT_BINARY_DIR}/ddpConfig.cmake" "${PROJECT_BINARY_DIR}/ddpConfigVersion.cmake"
  "${CMAKE_CURRENT_LIST_DIR}/FindLibTorch.cmake" DESTINATION "${_cmake_dir}")

# ddp_pkg_config(NAME DESCRIPTION REQUIRES LIBS CFLAGS)
function(ddp_pkg_config name description requires libs cflags)
  string(REGEX REPLACE "[^/]+" ".." up "${CMAKE_INSTALL_LIBDIR}/pkgconfig")  # the tree may be moved
  set(content "prefix=\${pcfiledir}/${up}\nlibdir=\${prefix}/${CMAKE_INSTALL_LIBDIR}\nincludedir=\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}\n")
  if("${name}" STREQUAL "ddp")
    string(APPEND content "torchdir=${LibTorch_ROOT_FOUND}\n")
  endif()
  string(APPEND content "\nName: ${name}\nDescription: ${description}\nVersion: ${PROJECT_VERSION}\nRequires: ${requires}\n"
    "Libs: -L\${libdir} -Wl,-rpath,\${libdir} ${libs}\nCflags: -std=c++20 -I\${includedir} ${cflags}\n")
  file(WRITE "${PROJECT_BINARY_DIR}/${name}.pc" "${content}")
  install(FILES "${PROJECT_BINARY_DIR}/${name}.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
endfunction()

ddp_pkg_config(ddp-core "libddp without LibTorch: environment, store, collectives over plain memory" "" "-lddp_comm -lddp_core -pthread" "")
if(DDP_TORCH)
  ddp_pkg_config(ddp "Data-parallel training for LibTorch programs" "ddp-core" "-lddp -L\${torchdir}/lib -Wl,-rpath,\${torchdir}/lib -Wl,--allow-shlib-undefined -ltorch_cpu -lc10"
    "-isystem \${torchdir}/include -isystem \${torchdir}/include/torch/csrc/api/include")
  ddp_pkg_config(ddp-checkpoint "Checkpoints of LibTorch programs that a vanishing machine cannot harm" "ddp" "-lddp_checkpoint" "")
endif()

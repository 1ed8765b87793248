# What every target of this project shares: language level, warnings, sanitizers, ccache, sonames, and one function per kind of target.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, Debug or RelWithDebInfo" FORCE)
endif()

find_program(DDP_CCACHE ccache)
if(DDP_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Precompiled headers are cached too, given these sloppiness settings (ccache manual, "Precompiled headers").
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime "CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}" "${DDP_CCACHE}")
endif()

add_library(ddp_settings INTERFACE)
target_include_directories(ddp_settings INTERFACE "${PROJECT_SOURCE_DIR}")
# -Wrestrict: false positives of g++ 12 on std::string + (GCC bug 105651); -Wmaybe-uninitialized: on strings in designated initialisers.
target_compile_options(ddp_settings INTERFACE -Wall -Wextra -Wno-restrict -Wno-maybe-uninitialized -Wno-missing-field-initializers -fvisibility-inlines-hidden)
if(DDP_SANITIZER)
  target_compile_options(ddp_settings INTERFACE -fsanitize=${DDP_SANITIZER} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(ddp_settings INTERFACE -fsanitize=${DDP_SANITIZER})
endif()

# ddp_library(NAME EXPORT_NAME SOURCES... ): a versioned library libNAME.so.0, known to users as ddp::EXPORT_NAME.
function(ddp_library name export_name)
  add_library(${name} SHARED ${ARGN})
  add_library(ddp::${export_name} ALIAS ${name})
  set_target_properties(${name} PROPERTIES EXPORT_NAME ${export_name} VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
  target_link_libraries(${name} PRIVATE $<BUILD_INTERFACE:ddp_settings>)
  set_target_properties(${name} PROPERTIES INSTALL_RPATH "$ORIGIN")
  install(TARGETS ${name} EXPORT ddpTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
endfunction()

# ddp_executable(NAME SOURCES...): an installed program.
function(ddp_executable name)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE ddp_settings)
  set_target_properties(${name} PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endfunction()

# How everything is compiled: language, warnings, sanitizers, ccache. Nothing here depends on the machine that builds
# (no -march): kernels choose their SIMD target at run time.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)  # the static library goes into the Python extension as it is
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(PROJECT_IS_TOP_LEVEL)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
  endif()
  find_program(LIGHTGRAD_CCACHE ccache)
  if(LIGHTGRAD_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${LIGHTGRAD_CCACHE}")
  endif()
endif()

# -ffp-contract=off: a compiler that fuses a*b+c where it can gives other bits on another target; kernels ask for FMA
# by name. -fno-math-errno: sqrt and friends become instructions; nobody here reads errno.
add_library(lightgrad_options INTERFACE)
target_compile_options(lightgrad_options INTERFACE -Wall -Wextra -ffp-contract=off -fno-math-errno)
# clang before 19 has C++14's sized deallocation only when asked.
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  add_compile_options(-fsized-deallocation)
endif()
if(LIGHTGRAD_SANITIZE)
  add_compile_options(-fsanitize=${LIGHTGRAD_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${LIGHTGRAD_SANITIZE})
endif()

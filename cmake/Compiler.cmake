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
if(LIGHTGRAD_SANITIZE)
  add_compile_options(-fsanitize=${LIGHTGRAD_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${LIGHTGRAD_SANITIZE})
endif()

# HWY_DISABLED_TARGETS for the kernels. SSSE3 and AVX3_DL are never worth their compile time here: the first is older
# than any machine in use, the second adds nothing to AVX3 that a floating-point kernel uses.
function(lightgrad_disabled_simd_targets out)
  set(disabled HWY_SSSE3 HWY_AVX3_DL)
  foreach(target IN ITEMS AVX3 AVX2 SSE4)
    if(NOT target IN_LIST LIGHTGRAD_SIMD_TARGETS)
      list(APPEND disabled HWY_${target})
    endif()
  endforeach()
  # Targets that later Highways know: variants of the ones above.
  if(hwy_VERSION VERSION_GREATER_EQUAL 1.0.4)
    list(APPEND disabled HWY_AVX3_ZEN4)
  endif()
  if(hwy_VERSION VERSION_GREATER_EQUAL 1.0.5)
    list(APPEND disabled HWY_AVX3_SPR)
  endif()
  foreach(target IN LISTS LIGHTGRAD_SIMD_TARGETS)
    if(NOT target MATCHES "^(AVX3|AVX2|SSE4)$")
      message(FATAL_ERROR "LIGHTGRAD_SIMD_TARGETS: '${target}' is not one of AVX3, AVX2, SSE4")
    endif()
  endforeach()
  list(JOIN disabled "|" disabled)
  set(${out} "(${disabled})" PARENT_SCOPE)
endfunction()

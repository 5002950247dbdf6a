// bf16_target.h: what files in intrinsics of AVX512_BF16 begin with; x86-64 only. Their functions
// run where has_bf16_products() says so.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)  // finds fault with the header's own undefined vectors
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#define LG_BF16_FUNCTION __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define LG_BF16 LG_BF16_FUNCTION __attribute__((always_inline)) inline

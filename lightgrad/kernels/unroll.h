// unroll.h: LG_UNROLL before a loop keeps arrays of vectors in registers. Debug and sanitizer
// builds do without: each unrolled check takes its time to compile, minutes in all.
#pragma once

#ifdef NDEBUG
#define LG_UNROLL _Pragma("GCC unroll 64")
#else
#define LG_UNROLL
#endif

// sanitizers.h: which sanitizer this is built with, for tests that fork. A child forked while
// another thread allocates may find AddressSanitizer's own malloc locked; ThreadSanitizer is lost
// when a forked child starts threads.
#pragma once

#ifdef __SANITIZE_ADDRESS__
inline constexpr bool under_asan = true;
#else
inline constexpr bool under_asan = false;
#endif
#ifdef __SANITIZE_THREAD__
inline constexpr bool under_tsan = true;
#else
inline constexpr bool under_tsan = false;
#endif

// random.h: counter-based random numbers (Philox4x32-10, Salmon et al., SC 2011): element i of a
// draw depends on the seed, the draw's offset and i alone, so the numbers are the same at any
// thread count.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace lg {

// Ten rounds of Philox4x32 on a 128-bit counter under a 64-bit key.
std::array<std::uint32_t, 4> philox(std::uint64_t key, std::uint64_t counter_low,
                                    std::uint64_t counter_high);

// Where a draw starts: handed to kernels by value, so that a kernel can make its numbers again in
// backward.
struct Stream {
  std::uint64_t seed = 0, offset = 0;
};

// Every member may be called by several threads at once (though which of them gets which stream, or
// a seed beside another thread's offset, is then up to chance).
class Generator {
 public:
  explicit Generator(std::uint64_t seed = 0) : seed_(seed) {}
  // A copy draws the same streams from here on.
  Generator(const Generator& other) : seed_(other.seed()), offset_(other.offset()) {}
  Generator& operator=(const Generator& other) {
    set_state(other.seed(), other.offset());
    return *this;
  }
  void manual_seed(std::uint64_t seed) { set_state(seed, 0); }
  std::uint64_t seed() const { return seed_.load(std::memory_order_relaxed); }
  std::uint64_t offset() const { return offset_.load(std::memory_order_relaxed); }
  void set_state(std::uint64_t seed, std::uint64_t offset) {
    seed_.store(seed, std::memory_order_relaxed);
    offset_.store(offset, std::memory_order_relaxed);
  }
  // A stream of its own; the generator moves on by one offset per draw, whatever its length.
  Stream next() { return {seed(), offset_.fetch_add(1, std::memory_order_relaxed)}; }

 private:
  std::atomic<std::uint64_t> seed_, offset_ = 0;
};

// The generator that lg::rand and friends use unless told otherwise (one per process).
Generator& default_generator();

// Fill n numbers, in parallel. Float and double take 24 and 53 random bits; element i of a stream
// is the same whatever n is.
template <class T>
void fill_uniform(T* out, std::int64_t n, T low, T high, Stream stream);  // [low, high)
template <class T>
void fill_normal(T* out, std::int64_t n, T mean, T stddev, Stream stream);  // Box-Muller
void fill_randint(std::int64_t* out, std::int64_t n, std::int64_t low, std::int64_t high,
                  Stream stream);  // [low, high)
void fill_permutation(std::int64_t* out, std::int64_t n,
                      Stream stream);  // Fisher-Yates of 0 .. n-1
// Uniform 32-bit word of element i: what dropout compares with its threshold, in forward and again
// in backward.
inline std::uint32_t random_word(Stream s, std::uint64_t i) {
  return philox(s.seed, i >> 2, s.offset)[i & 3];
}

}  // namespace lg

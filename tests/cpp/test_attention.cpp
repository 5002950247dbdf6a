// test_attention.cpp: the attention kernels against plain loops in double, over strided parts of a
// projection.
#include "lightgrad/kernels/attention.h"

#include "lightgrad/base/dtype.h"
#include "tests/cpp/kernel_testing.h"

namespace lg::testing {
namespace {

using kernels::Attention;
using kernels::AttentionGradient;
using kernels::AttentionNumber;

template <class T> struct AttentionKernel : ::testing::Test {};
using Types = ::testing::Types<float, double, bfloat16>;
TYPED_TEST_SUITE(AttentionKernel, Types);

enum class MaskKind { none, full, keys_only, transposed, hides_rows };

struct Case {
  std::int64_t batch, heads, query_len, key_len, head_dim, value_dim;
  bool causal = false;
  MaskKind mask = MaskKind::none;
  float dropout_p = 0;
};

std::ostream& operator<<(std::ostream& os, const Case& c) {
  return os << "batch " << c.batch << " heads " << c.heads << " queries " << c.query_len << " keys "
            << c.key_len << " head_dim " << c.head_dim << " value_dim " << c.value_dim << " causal "
            << c.causal << " mask " << static_cast<int>(c.mask) << " dropout " << c.dropout_p;
}

// Inputs in double (rounded through T) and all results of one run in precision P.
template <class P> struct Run {
  std::vector<P> out;
  std::vector<AttentionNumber<P>> lse;
  std::vector<P> dq, dk, dv;
};

// q rows carry gaps of 3 elements, as parts of a wider projection do: [batch, len, heads, dim + 3].
void set_strides(std::int64_t (&stride)[3], std::int64_t heads, std::int64_t len,
                 std::int64_t dim) {
  stride[1] = dim + 3;
  stride[2] = heads * (dim + 3);
  stride[0] = len * stride[2];
}

template <class P, class T> Run<P> run(const Case& c, bool reference, T) {
  const std::int64_t q_size = c.batch * c.query_len * c.heads,
                     k_size = c.batch * c.key_len * c.heads;
  const auto values = [](std::int64_t n, unsigned seed) {
    return cast<P>(random_values<T>(n, 1, seed));
  };
  const auto q = values(q_size * (c.head_dim + 3), 1), k = values(k_size * (c.head_dim + 3), 2);
  const auto v = values(k_size * (c.value_dim + 3), 3), g = values(q_size * (c.value_dim + 3), 4);
  Attention<P> a{};
  a.batch = c.batch, a.heads = c.heads, a.query_len = c.query_len, a.key_len = c.key_len;
  a.head_dim = c.head_dim, a.value_dim = c.value_dim;
  a.q = q.data(), a.k = k.data(), a.v = v.data();
  set_strides(a.q_stride, c.heads, c.query_len, c.head_dim);
  set_strides(a.k_stride, c.heads, c.key_len, c.head_dim);
  set_strides(a.v_stride, c.heads, c.key_len, c.value_dim);
  set_strides(a.out_stride, c.heads, c.query_len, c.value_dim);
  a.causal = c.causal;
  a.scale = static_cast<AttentionNumber<P>>(static_cast<AttentionNumber<T>>(
      c.head_dim > 0 ? 1 / std::sqrt(static_cast<double>(c.head_dim)) : 1));
  a.dropout_p = c.dropout_p;
  a.dropout = {42, 7};
  std::vector<P> mask;
  if (c.mask != MaskKind::none) {
    mask = values(c.batch * c.heads * c.query_len * c.key_len, 5);
    const std::int64_t area = c.query_len * c.key_len;
    const std::int64_t full[4] = {c.heads * area, area, c.key_len, 1}, keys_only[4] = {0, 0, 0, 1},
                       transposed[4] = {0, area, 1, c.query_len};
    for (int i = 0; i < 4; ++i) {
      a.mask_stride[i] = c.mask == MaskKind::keys_only    ? keys_only[i]
                         : c.mask == MaskKind::transposed ? transposed[i]
                                                          : full[i];
    }
    for (std::size_t i = 0; i < mask.size(); ++i) {
      const auto row = static_cast<std::int64_t>(i) / c.key_len % c.query_len;
      if (i % 3 == 1 || (c.mask == MaskKind::hides_rows && row % 4 == 1)) mask[i] = P(-INFINITY);
    }
    a.mask = mask.data();
  }
  Run<P> r;
  r.out.assign(g.size(), P(9)), r.lse.assign(static_cast<std::size_t>(q_size), 9);
  r.dq.assign(q.size(), P(9)), r.dk.assign(k.size(), P(9)), r.dv.assign(v.size(), P(9));
  AttentionGradient<P> d{};
  d.g = g.data(), d.out = r.out.data(), d.lse = r.lse.data();
  d.dq = r.dq.data(), d.dk = r.dk.data(), d.dv = r.dv.data();
  std::copy_n(a.out_stride, 3, d.g_stride);
  std::copy_n(a.q_stride, 3, d.dq_stride);
  std::copy_n(a.k_stride, 3, d.dk_stride);
  std::copy_n(a.v_stride, 3, d.dv_stride);
  if constexpr (!std::is_same_v<P, bfloat16>) {
    if (reference) {
      attention_forward_reference(a, r.out.data(), r.lse.data());
      attention_backward_reference(a, d);
    }
  }
  if (!reference) {
    attention_forward(a, r.out.data(), r.lse.data());
    attention_backward(a, d);
    // Each gradient alone is the same; what is not wanted is not needed for it.
    const auto all = r;
    d.dk = d.dv = nullptr;
    attention_backward(a, d);
    d.dq = nullptr, d.dk = r.dk.data();
    attention_backward(a, d);
    d.dk = nullptr, d.dv = r.dv.data();
    attention_backward(a, d);
    for (const auto part : {&Run<P>::dq, &Run<P>::dk, &Run<P>::dv})
      EXPECT_EQ(cast<double>(r.*part), cast<double>(all.*part));
  }
  return r;
}

// Half precision rounds the weights and their gradients, so that errors are a share of the largest
// terms, not of their sum.
void expect_close_to_largest(const std::vector<double>& actual, const std::vector<double>& expected,
                             const char* what) {
  double largest = 0, error = 0, all_errors = 0, length = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    largest = std::max(largest, std::fabs(expected[i]));
    error = std::max(error, std::fabs(actual[i] - expected[i]));
    all_errors += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    length += expected[i] * expected[i];
  }
  EXPECT_LE(error, 0x1p-7 * largest + 1e-6) << what;
  EXPECT_LE(std::sqrt(all_errors), 0x1p-8 * std::sqrt(length) + 1e-6) << what;
}

template <class T> void check(const Case& c) {
  SCOPED_TRACE(::testing::Message() << c);
  const auto expected = run<double>(c, true, T());
  for_each_target_of<T>([&] {
    const auto actual = run<T>(c, false, T());
    constexpr bool half = std::is_same_v<T, bfloat16>;
    const auto near = [](const std::vector<T>& got, const std::vector<double>& want, double scale,
                         const char* what) {
      if constexpr (half)
        expect_close_to_largest(cast<double>(got), want, what);
      else
        expect_close(got, want, scale * kTolerance<T>, what);
    };
    expect_close(actual.lse, expected.lse, kTolerance<AttentionNumber<T>>, "lse");
    near(actual.out, expected.out, 2, "out");
    near(actual.dq, expected.dq, 4, "dq");
    near(actual.dk, expected.dk, 8, "dk");
    near(actual.dv, expected.dv, 4, "dv");
  });
}

TYPED_TEST(AttentionKernel, AgreesWithReference) {
  for (const bool causal : {false, true}) {
    for (const std::int64_t n : {1, 2, 5, 6, 7, 15, 16, 17, 33, 64, 65, 66, 67, 131}) {
      check<TypeParam>({1, 2, n, n, 8, 8, causal});
    }
    for (const std::int64_t dim : {1, 3, 7, 16, 31, 32, 33, 64, 80, 130}) {
      check<TypeParam>({2, 1, 9, 20, dim, dim, causal});
      check<TypeParam>({1, 2, 20, 9, dim, 5, causal});
      check<TypeParam>({1, 1, 70, 70, 4, dim, causal});
    }
    check<TypeParam>({3, 7, 10, 11, 8, 8, causal});     // one task per head
    check<TypeParam>({1, 1, 300, 600, 16, 8, causal});  // several blocks of queries and keys
    check<TypeParam>({1, 1, 600, 257, 8, 16, causal});
    check<TypeParam>({2, 2, 257, 513, 8, 8, causal});
  }
}

TYPED_TEST(AttentionKernel, Masks) {
  for (const auto kind :
       {MaskKind::full, MaskKind::keys_only, MaskKind::transposed, MaskKind::hides_rows}) {
    for (const bool causal : {false, true}) {
      check<TypeParam>({2, 2, 13, 19, 8, 8, causal, kind});
      check<TypeParam>({1, 2, 70, 530, 8, 8, causal, kind});
    }
  }
}

TYPED_TEST(AttentionKernel, Dropout) {
  for (const float p : {0.1f, 0.5f, 1.0f}) {
    check<TypeParam>({2, 2, 13, 19, 8, 8, false, MaskKind::none, p});
    check<TypeParam>({1, 3, 67, 67, 8, 8, true, MaskKind::hides_rows, p});
    check<TypeParam>({1, 1, 10, 523, 8, 8, false, MaskKind::none, p});
  }
}

TYPED_TEST(AttentionKernel, Empty) {
  check<TypeParam>({0, 2, 5, 5, 8, 8});
  check<TypeParam>({2, 0, 5, 5, 8, 8});
  check<TypeParam>({1, 2, 0, 5, 8, 8});
  check<TypeParam>({1, 2, 5, 0, 8, 8});
  check<TypeParam>({1, 2, 5, 5, 0, 8});
  check<TypeParam>({1, 2, 5, 5, 8, 0});
}

// NaN in one query spoils that row of the output alone; +inf as a score gives NaN, as inf - inf is.
TYPED_TEST(AttentionKernel, NaNStaysInItsRow) {
  using T = TypeParam;
  for_each_target_of<T>([] {
    for (const T bad : {T(NAN), T(INFINITY)}) {
      const std::int64_t n = 70, dim = 8;
      auto q = random_values<T>(n * dim, 1, 1);
      std::vector<T> k(q.size(), T(1)), out(q.size());
      std::vector<AttentionNumber<T>> lse(static_cast<std::size_t>(n));
      q[40 * dim + 3] = bad;
      Attention<T> a{1,           1,           n,          n,        dim,
                     dim,         q.data(),    k.data(),   k.data(), {0, 0, dim},
                     {0, 0, dim}, {0, 0, dim}, {0, 0, dim}};
      attention_forward(a, out.data(), lse.data());
      for (std::int64_t i = 0; i < n * dim; ++i) {
        ASSERT_EQ(std::isnan(convert<double>(out[static_cast<std::size_t>(i)])), i / dim == 40)
            << i;
      }
    }
  });
}

// Scores whose maximum moves by hundreds from one block of keys to the next, from -inf on.
TYPED_TEST(AttentionKernel, RunningMaximum) {
  using T = TypeParam;
  for_each_target_of<T>([] {
    for (const double step : {300.0, -300.0}) {
      const std::int64_t n = 1024;
      std::vector<T> q(1, T(1)), k(static_cast<std::size_t>(n)), v(k.size()), mask(k.size());
      for (std::size_t j = 0; j < k.size(); ++j) {
        k[j] = static_cast<T>(step * static_cast<double>(j / 256));
        v[j] = static_cast<T>(j / 256);
        mask[j] = j / 256 == (step > 0 ? 0 : 3) ? T(-INFINITY) : T(0);
      }
      Attention<T> a{1,        1,        1,         n,         1,         1,        q.data(),
                     k.data(), v.data(), {0, 0, 1}, {0, 0, 1}, {0, 0, 1}, {0, 0, 1}};
      a.mask = mask.data();
      a.mask_stride[3] = 1;
      T out;
      AttentionNumber<T> lse;
      attention_forward(a, &out, &lse);
      EXPECT_NEAR(convert<double>(out), step > 0 ? 3 : 0, 1e-6);
      EXPECT_NEAR(static_cast<double>(lse), (step > 0 ? 900 : 0) + std::log(256.0), 1e-3);
    }
  });
}

TYPED_TEST(AttentionKernel, SameBitsAtAnyThreadCount) {
  using T = TypeParam;
  if (std::is_same_v<T, bfloat16> && !kernels::has_bf16_products()) GTEST_SKIP();
  for (const Case c :
       {Case{5, 4, 40, 40, 16, 16, true}, Case{1, 2, 500, 400, 16, 16, true, MaskKind::full, 0.1f},
        Case{1, 1, 300, 300, 8, 8}}) {
    SCOPED_TRACE(::testing::Message() << c);
    expect_same_bits([&] {
      const auto r = run<T>(c, false, T());
      auto all = cast<double>(r.lse);
      for (const auto* part : {&r.out, &r.dq, &r.dk, &r.dv}) {
        const auto numbers = cast<double>(*part);
        all.insert(all.end(), numbers.begin(), numbers.end());
      }
      return all;
    });
  }
}

}  // namespace
}  // namespace lg::testing

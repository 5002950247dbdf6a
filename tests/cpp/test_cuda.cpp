// What can be said of NVIDIA devices on any machine; tests/triton has the rest.
#include <gtest/gtest.h>

#include "lightgrad/lightgrad.h"

namespace lg {
namespace {

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "none";
}

TEST(Cuda, NamesOfDevices) {
  EXPECT_EQ(parse_device("cpu"), Device());
  EXPECT_EQ(parse_device("cuda"), (Device{DeviceType::cuda, 0}));
  EXPECT_EQ(parse_device("cuda:3").to_string(), "cuda:3");
  for (const char* bad : {"", "gpu", "cuda:", "cuda:-1", "cuda:1x", "cuda:999", "CPU"})
    EXPECT_NE(error_of([&] { parse_device(bad); }).find("device: '"), std::string::npos) << bad;
}

TEST(Cuda, OnTheCpuNothingMoves) {
  const Tensor x = ones({2});
  EXPECT_TRUE(to_device(x, {}).is_same(x));
  EXPECT_TRUE(x.to_cpu().is_same(x));
}

TEST(Cuda, WithoutADeviceTheErrorSaysWhatIsMissing) {
  if (cuda::is_available()) GTEST_SKIP() << "this machine has a device";
  EXPECT_EQ(cuda::device_count(), 0);
  EXPECT_FALSE(cuda::why_not_available().empty());
  EXPECT_EQ(error_of([] {
              to_device(ones({2}), {DeviceType::cuda, 0});
            }),
            "cuda: " + cuda::why_not_available());
  auto layer = nn::make<nn::Linear>(2, 3);
  EXPECT_NE(error_of([&] { layer->to(Device{DeviceType::cuda, 0}); }), "none");
  EXPECT_EQ(layer->weight.device(), Device());  // nothing has changed
}

TEST(Cuda, ABundleThatIsNotThere) {
  EXPECT_NE(error_of([] { cuda::load_kernels("/nowhere"); }).find("cannot read /nowhere/manifest"),
            std::string::npos);
}

TEST(FusedMlp, SaysWhatIsWrong) {
  const Tensor x = ones({2, 3}), w = ones({5, 3}), v = ones({5});
  const auto says = [](const std::function<void()>& f, const char* what) {
    EXPECT_EQ(error_of(f), std::string("fused_mlp: ") + what);
  };
  says(
      [&] {
        fused_mlp(ones({2, 4}), w, v, v, v);
      },
      "x has 4 features, weight expects 3 (x [2, 4], weight [5, 3])");
  says([&] { fused_mlp(x, v, v, v, v); },
       "weight has shape [5], expected [out_features, in_features]");
  says([&] { fused_mlp(x, w, ones({1}), v, v); }, "bias has shape [1], expected [5]");
  says([&] { fused_mlp(x, w, v, v, to(v, DType::float64)); },
       "beta is float64, x is float32; expected one dtype");
  says([&] { fused_mlp(to(x, DType::int64), w, v, v, v); },
       "x is int64 [2, 3], expected a floating-point dtype");
}

TEST(FusedMlp, WithoutAGraphItKeepsNothing) {
  const Tensor x = randn({256, 64}), w = randn({128, 64}), v = ones({128});
  NoGrad off;
  fused_mlp(x, w, v, v, v);
  const auto before = memory_stats();
  reset_peak_memory();
  const Tensor y = fused_mlp(x, w, v, v, v);
  const auto peak = memory_stats().peak - before.current;
  EXPECT_LT(peak, 256 * 128 * 4 + 256 * 8 + 8192);  // y and the rows' statistics
}

TEST(FusedMlp, TheLayerIsItsParts) {
  auto m = nn::make<nn::FusedMlp>(6, 8);
  nn::init::uniform_(m->gamma);
  nn::init::uniform_(m->beta);
  const Tensor x = randn({3, 2, 6});
  const Tensor y = layer_norm(relu(linear(x, m->weight, m->bias)), {8}, m->gamma, m->beta);
  EXPECT_LT(amax(abs(m(x) - y)).item(), 1e-5);
  EXPECT_EQ(m->parameters().size(), 4u);
}

}  // namespace
}  // namespace lg

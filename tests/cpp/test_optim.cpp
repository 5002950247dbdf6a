// Optimizers against plain loops in double, their state, clipping, learning-rate schedules.
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "lightgrad/lightgrad.h"

namespace lg::optim {
namespace {

using Numbers = std::vector<double>;

// The gradient of step t: anything that changes from step to step and from element to element.
double gradient(int t, std::size_t i) { return std::sin(1.7 * t + 0.9 * static_cast<double>(i)); }

// Runs `steps` steps of the optimizer and of reference(p, g, t) side by side, for several sizes and
// dtypes.
template <class Make, class Reference>
void compare(Make make_optimizer, Reference reference, int steps = 7) {
  for (const auto& [dtype, tolerance] :
       {std::pair{DType::float64, 1e-14}, {DType::float32, 3e-6}, {DType::bfloat16, 4e-2}}) {
    std::vector<Tensor> params;
    std::vector<Numbers> want;
    for (std::int64_t n : {1, 7, 300}) {
      Tensor p = to(linspace(-1, 2, n), dtype);
      if (n == 300) p = transpose(reshape(p, {20, 15}), 0, 1);  // not contiguous
      p = p.detach();
      p.set_requires_grad();
      params.push_back(p);
      want.push_back(p.to_vector<double>());
    }
    auto optimizer = make_optimizer(params);
    for (int t = 1; t <= steps; ++t) {
      for (std::size_t k = 0; k < params.size(); ++k) {
        Numbers g(want[k].size());
        for (std::size_t i = 0; i < g.size(); ++i) g[i] = gradient(t, i);
        params[k].set_grad(to(tensor(g, params[k].shape()), dtype));
        reference(want[k], params[k].grad().to_vector<double>(), static_cast<int>(k), t);
      }
      const auto version = params[2].impl()->storage->version();
      optimizer->step();
      EXPECT_GT(params[2].impl()->storage->version(), version);
    }
    for (std::size_t k = 0; k < params.size(); ++k) {
      const auto got = params[k].to_vector<double>();
      for (std::size_t i = 0; i < got.size(); ++i)
        ASSERT_NEAR(got[i], want[k][i], tolerance) << name_of(dtype);
    }
  }
}

TEST(Optim, SgdIsItsFormula) {
  for (const SGDOptions& o :
       {SGDOptions{.lr = 0.1}, SGDOptions{.lr = 0.1, .weight_decay = 0.3},
        SGDOptions{.lr = 0.1, .momentum = 0.9, .dampening = 0.5, .maximize = true},
        SGDOptions{.lr = 0.05, .momentum = 0.9, .weight_decay = 0.1, .nesterov = true}}) {
    std::map<int, Numbers> buffers;
    compare([&](auto params) { return std::make_unique<SGD>(params, o); },
            [&](Numbers& p, const Numbers& grads, int which, int t) {
              Numbers& v = buffers[which];
              v.resize(p.size());
              for (std::size_t i = 0; i < p.size(); ++i) {
                double g = (o.maximize ? -grads[i] : grads[i]) + o.weight_decay * p[i];
                v[i] = t == 1 ? g : o.momentum * v[i] + (1 - o.dampening) * g;
                if (o.momentum != 0) g = o.nesterov ? g + o.momentum * v[i] : v[i];
                p[i] -= o.lr * g;
              }
            });
  }
}

template <class T, class O> void check_adam(const O& o, bool decoupled) {
  struct State {
    Numbers m, v, largest;
  };
  std::map<int, State> states;
  compare([&](auto params) { return states.clear(), std::make_unique<T>(params, o); },
          [&](Numbers& p, const Numbers& grads, int which, int t) {
            State& s = states[which];
            for (Numbers* x : {&s.m, &s.v, &s.largest}) x->resize(p.size());
            for (std::size_t i = 0; i < p.size(); ++i) {
              double g = o.maximize ? -grads[i] : grads[i];
              if (decoupled)
                p[i] -= o.lr * o.weight_decay * p[i];
              else
                g += o.weight_decay * p[i];
              s.m[i] = o.beta1 * s.m[i] + (1 - o.beta1) * g;
              s.v[i] = o.beta2 * s.v[i] + (1 - o.beta2) * g * g;
              s.largest[i] = std::max(s.largest[i], s.v[i]);
              const double v = o.amsgrad ? s.largest[i] : s.v[i];
              p[i] -= o.lr * s.m[i] / (1 - std::pow(o.beta1, t)) /
                      (std::sqrt(v / (1 - std::pow(o.beta2, t))) + o.eps);
            }
          });
}

TEST(Optim, AdamIsItsFormula) {
  check_adam<Adam>(AdamOptions{.lr = 0.05}, false);
  check_adam<Adam>(
      AdamOptions{.lr = 0.05, .beta1 = 0.5, .beta2 = 0.6, .weight_decay = 0.2, .maximize = true},
      false);
  check_adam<AdamW>(AdamWOptions{.lr = 0.05}, true);
  check_adam<AdamW>(
      AdamWOptions{.lr = 0.05, .beta2 = 0.5, .eps = 1e-3, .weight_decay = 0.5, .amsgrad = true},
      true);
}

TEST(Optim, GroupsHaveTheirOwnOptions) {
  Tensor a = ones({2}), b = ones({2}), c = ones({2});
  for (const Tensor& t : {a, b, c}) t.set_requires_grad();
  SGD opt(std::vector<ParameterGroup>{{{a}, {}}, {{b, c}, {{"lr", 0.5}}}}, {.lr = 1});
  a.set_grad(ones({2}));
  b.set_grad(ones({2}));
  opt.step();  // c has no gradient
  EXPECT_EQ(a.to_vector<float>()[0], 0);
  EXPECT_EQ(b.to_vector<float>()[0], 0.5);
  EXPECT_EQ(c.to_vector<float>()[0], 1);
  opt.group(1).options["lr"] = 0;
  opt.step();
  EXPECT_EQ(b.to_vector<float>()[0], 0.5);
  opt.zero_grad(false);
  EXPECT_EQ(a.grad().to_vector<float>()[0], 0);
  opt.zero_grad();
  EXPECT_FALSE(a.grad().defined());
}

struct Problem {
  nn::Mod<nn::Linear> m = nn::make<nn::Linear>(4, 3);
  Tensor x = randn({8, 4}), y = randn({8, 3});
  double step(Optimizer& o) {
    o.zero_grad();
    Tensor loss = mse_loss(m(x), y);
    loss.backward();
    o.step();
    return loss.item();
  }
};

TEST(Optim, LossFallsAndAParameterMayChangeItsDtype) {
  Problem p;
  AdamW opt(p.m->parameters(), {.lr = 0.05});
  const double first = p.step(opt);
  for (int i = 0; i < 100; ++i) p.step(opt);
  p.m->to(DType::float64);
  p.x = to(p.x, DType::float64);
  p.y = to(p.y, DType::float64);
  for (int i = 0; i < 20; ++i) p.step(opt);
  EXPECT_LT(p.step(opt), 0.7 * first);
  EXPECT_EQ(opt.state_dict().parameters.at(0).tensors.at("exp_avg").dtype(), DType::float64);
}

TEST(Optim, StateGoesOnWhereItWas) {
  manual_seed(3);
  Problem p;
  AdamW opt(p.m->parameters(), {.lr = 0.05});
  for (int i = 0; i < 3; ++i) p.step(opt);
  Problem q = p;
  q.m = clone(p.m);
  AdamW other(q.m->parameters(), {.lr = 1});
  other.load_state_dict(opt.state_dict());
  EXPECT_EQ(other.group(0)["lr"], 0.05);
  for (int i = 0; i < 3; ++i) {
    p.step(opt);
    q.step(other);
  }
  EXPECT_EQ(p.m->weight.to_vector<float>(), q.m->weight.to_vector<float>());

  OptimizerState bad = opt.state_dict();
  bad.parameters[0].tensors["exp_avg"] = zeros({2});
  EXPECT_THROW(other.load_state_dict(bad), Error);
  bad = opt.state_dict();
  bad.groups[0].params.pop_back();
  EXPECT_THROW(other.load_state_dict(bad), Error);
  bad = opt.state_dict();
  bad.groups.push_back(bad.groups[0]);
  EXPECT_THROW(other.load_state_dict(bad), Error);
  bad = opt.state_dict();
  bad.parameters[0].tensors["velocity"] = zeros({3, 4});
  EXPECT_THROW(other.load_state_dict(bad), Error);
  bad = opt.state_dict();
  bad.groups[0].options["lr"] = -1;
  EXPECT_THROW(other.load_state_dict(bad), Error);
  p.step(opt);
  q.step(other);
  EXPECT_EQ(p.m->weight.to_vector<float>(), q.m->weight.to_vector<float>());
}

// Two layers that learn a function of 8 numbers.
struct Learner {
  nn::Mod<nn::Sequential> model =
      (manual_seed(7), nn::make<nn::Sequential>(nn::make<nn::Linear>(8, 64), nn::make<nn::Tanh>(),
                                                nn::make<nn::Linear>(64, 1)));
  Tensor x = randn({512, 8}),
         y = sin(x.index({Slice(), Slice(0, 1)}) * 2) + x.index({Slice(), Slice(1, 2)});
  double step(Optimizer& o) {
    o.zero_grad();
    const Tensor loss = mse_loss(model(x), y);
    loss.backward();
    o.step();
    return loss.item();
  }
  std::vector<float> weights() const { return model->parameters()[0].to_vector<float>(); }
};

template <class Make> void learns_as_well_in_bfloat16(Make make_optimizer, int steps) {
  Learner a, b;
  const auto full = make_optimizer(a, DType::float32), half = make_optimizer(b, DType::bfloat16);
  double loss = 0, other = 0;
  for (int i = 0; i < steps; ++i) {
    loss = a.step(*full);
    other = b.step(*half);
  }
  EXPECT_LT(loss, 0.05);
  EXPECT_NEAR(other, loss, 0.1 * loss + 1e-3);
  EXPECT_NE(a.weights(), b.weights());
  for (const auto& [number, p] : half->state_dict().parameters) {
    for (const auto& [name, t] : p.tensors) EXPECT_EQ(t.dtype(), DType::bfloat16) << name;
  }
}

TEST(Optim, StatesInBfloat16LearnAsWell) {
  learns_as_well_in_bfloat16(
      [](Learner& l, DType t) {
        return std::make_unique<AdamW>(l.model->parameters(),
                                       AdamWOptions{.lr = 1e-2, .state_dtype = t});
      },
      400);
  learns_as_well_in_bfloat16(
      [](Learner& l, DType t) {
        return std::make_unique<SGD>(l.model->parameters(),
                                     SGDOptions{.lr = 0.02, .momentum = 0.9, .state_dtype = t});
      },
      800);
}

TEST(Optim, StatesInBfloat16GoOnWithTheSameBits) {
  Learner a;
  AdamW whole(a.model->parameters(), {.lr = 1e-2, .state_dtype = DType::bfloat16});
  for (int i = 0; i < 5; ++i) a.step(whole);
  Learner b = a;
  b.model = clone(a.model);
  AdamW resumed(b.model->parameters(), {.lr = 1, .state_dtype = DType::bfloat16});
  resumed.load_state_dict(whole.state_dict());
  AdamW wide(clone(a.model)->parameters());
  wide.load_state_dict(whole.state_dict());  // into float32
  const Tensor narrow = whole.state_dict().parameters.at(0).tensors.at("exp_avg");
  const Tensor same = wide.state_dict().parameters.at(0).tensors.at("exp_avg");
  EXPECT_EQ(same.dtype(), DType::float32);
  EXPECT_EQ(same.to_vector<float>(), narrow.to_vector<float>());
  for (int i = 0; i < 5; ++i) EXPECT_EQ(a.step(whole), b.step(resumed));
  EXPECT_EQ(a.weights(), b.weights());
}

TEST(Optim, StatesInBfloat16AreAsManyBytesAsTheySay) {
  Tensor p = ones({1000}), q = ones({1000}, DType::float64);
  const std::vector<Tensor> params{p, q};
  for (const Tensor& t : params) t.set_grad(ones(t.shape(), t.dtype()));
  const auto states = [] {
    return memory_stats().uses[static_cast<int>(MemoryUse::optimizer)].current;
  };
  const auto before = states();
  AdamW opt(params, {.state_dtype = DType::bfloat16});
  opt.step();
  // Two of 1000, each with a header; those of float64 stay float64.
  EXPECT_EQ(states() - before, 2 * (2000 + 64) + 2 * (8000 + 64));
  EXPECT_EQ(opt.state_dtype(), DType::bfloat16);
}

TEST(Optim, ConstructorErrors) {
  Tensor p = ones({2});
  p.set_requires_grad();
  const auto error = [](auto&& f) -> std::string {
    try {
      f();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  const auto starts = [&](auto&& f, std::string_view text) {
    EXPECT_EQ(error(f).substr(0, text.size()), text);
  };
  const std::vector<Tensor> params{p};
  starts([&] { SGD o(params, {.lr = -1}); }, "SGD: lr is -1, expected a finite number from 0 up");
  starts([&] { Adam o(params, {.lr = NAN}); }, "Adam: lr is nan");
  starts([&] { AdamW o(params, {.lr = INFINITY}); }, "AdamW: lr is inf");
  starts([&] { AdamW o(params, {.beta1 = 1}); },
         "AdamW: beta1 is 1, expected a finite number from 0 up and below 1");
  starts([&] { AdamW o(params, {.beta2 = -0.1}); }, "AdamW: beta2 is -0.1");
  starts([&] { AdamW o(params, {.eps = -1}); }, "AdamW: eps is -1");
  starts([&] { SGD o(params, {.nesterov = true}); }, "SGD: nesterov needs a momentum");
  starts([&] { AdamW o(params, {.state_dtype = DType::float16}); },
         "AdamW: state_dtype is float16, expected float32 or bfloat16");
  starts([&] { SGD o(std::vector<Tensor>{}); }, "SGD: got no parameters");
  starts([&] { SGD o(std::vector<Tensor>{p * 2}); }, "SGD: parameter 0 (float32 [2]) was computed");
  starts(
      [&] {
        SGD o(std::vector<Tensor>{p, p});
      },
      "SGD: parameter 1 (float32 [2]) is given twice");
  starts([&] { SGD o(std::vector<Tensor>{zeros({2}, DType::int64)}); },
         "SGD: parameter 0 is int64 [2]");
  SGD opt(params);
  starts([&] { opt.add_param_group({{p}, {}}); }, "SGD: parameter 0 (float32 [2]) is given twice");
  starts([&] { opt.add_param_group({{ones({1})}, {{"lr", -2}}}); }, "SGD: lr is -2");
  EXPECT_EQ(opt.groups().size(), 1u);
}

TEST(Optim, ClippingGradients) {
  Tensor a = zeros({3}), b = zeros({2, 2}), none = zeros({5});
  const std::vector<Tensor> params{a, b, none};
  const auto reset = [&] {
    a.set_grad(tensor({1.f, -2.f, 3.f}));
    b.set_grad(transpose(tensor({4.f, 0.f, 0.f, -5.f}, {2, 2}), 0, 1));
  };
  const double norm = std::sqrt(1.0 + 4 + 9 + 16 + 25);
  reset();
  EXPECT_NEAR(nn::utils::clip_grad_norm_(params, 100), norm, 1e-12);
  EXPECT_EQ(a.grad().to_vector<float>()[2], 3);
  EXPECT_NEAR(nn::utils::clip_grad_norm_(params, 1), norm, 1e-12);
  EXPECT_NEAR(a.grad().to_vector<float>()[2], 3 / norm, 1e-6);
  EXPECT_NEAR(b.grad().to_vector<float>()[3], -5 / norm, 1e-6);
  EXPECT_NEAR(nn::utils::grad_norm(params), 1, 1e-6);
  reset();
  EXPECT_EQ(nn::utils::clip_grad_norm_(params, 2.5, INFINITY), 5);
  EXPECT_NEAR(a.grad().to_vector<float>()[2], 1.5, 1e-6);
  reset();
  EXPECT_NEAR(nn::utils::clip_grad_norm_(params, 1, 1), 15, 1e-9);
  EXPECT_NEAR(nn::utils::grad_norm(params, 3), std::cbrt(1.0 + 8 + 27 + 64 + 125) / 15, 1e-6);
  reset();
  nn::utils::clip_grad_value_(params, 1.5);
  EXPECT_EQ(a.grad().to_vector<float>(), (std::vector<float>{1, -1.5, 1.5}));
  EXPECT_EQ(b.grad().to_vector<float>(), (std::vector<float>{1.5, 0, 0, -1.5}));
  a.set_grad(tensor({1.f, NAN, 3.f}));
  EXPECT_THROW(nn::utils::clip_grad_norm_(params, 1, 2, true), Error);
  EXPECT_EQ(a.grad().to_vector<float>()[2], 3);
  EXPECT_TRUE(std::isnan(nn::utils::clip_grad_norm_(params, 1)));
  EXPECT_TRUE(std::isnan(a.grad().to_vector<float>()[2]));
  EXPECT_EQ(nn::utils::clip_grad_norm_({none}, 1), 0);
  EXPECT_THROW(nn::utils::clip_grad_norm_(params, -1), Error);
  EXPECT_THROW(nn::utils::clip_grad_norm_(params, 1, 0), Error);
}

TEST(Optim, AStepThatClipsIsClippingAndAStep) {
  const auto start = [](std::uint64_t seed) {
    Tensor t = Tensor::empty({1000});
    fill_uniform<float>(t.data<float>(), t.numel(), -1, 1, {seed, 0});
    return t;
  };
  for (const double max_norm : {0.0, 0.5, 1e3}) {
    const Tensor g = start(1), h = start(2);
    const std::vector<Tensor> a{start(3), start(4), start(5)}, b{start(3), start(4), start(5)};
    const auto groups = [](const std::vector<Tensor>& p) {
      return std::vector<ParameterGroup>{{{p[0]}, {{"lr", 0.1}}}, {{p[1], p[2]}, {}}};
    };
    AdamW one(groups(a)), two(groups(b));
    EXPECT_TRUE(std::isnan(one.grad_norm()));
    for (int i = 0; i < 3; ++i) {
      for (const auto& p : {a, b}) {
        p[0].set_grad(g.copy());
        p[1].set_grad(h.copy());  // a[2] has none
      }
      one.step(max_norm);
      const double norm = nn::utils::clip_grad_norm_(b, max_norm);
      two.step();
      EXPECT_EQ(one.grad_norm(), norm);
      EXPECT_EQ(a[0].grad().to_vector<float>(), g.to_vector<float>());
      for (std::size_t k = 0; k < a.size(); ++k)
        EXPECT_EQ(a[k].to_vector<float>(), b[k].to_vector<float>());
    }
  }
  const Tensor p = ones({2});
  SGD sgd(std::vector<Tensor>{p}, {.lr = 1});
  sgd.step(1);
  EXPECT_EQ(sgd.grad_norm(), 0);
  p.set_grad(tensor({3.f, 4.f}));
  sgd.step(1);
  EXPECT_EQ(sgd.grad_norm(), 5);
  EXPECT_NEAR(p.to_vector<float>()[0], 1 - 0.6, 1e-6);
  for (const double bad : {-1.0, std::nan("")}) EXPECT_THROW(sgd.step(bad), Error);
}

// The learning rates of steps 0 .. n - 1.
Numbers rates(LRScheduler& s, int n) {
  Numbers out;
  for (int i = 0; i < n; ++i) {
    out.push_back(s.get_last_lr()[0]);
    s.step();
  }
  return out;
}
void expect_near(const Numbers& got, const Numbers& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-12) << i;
}

struct Scheduled {
  Tensor p = ones({1});
  SGD opt = SGD(std::vector<Tensor>{p}, {.lr = 0.8, .momentum = 0.9});
};

TEST(Schedule, Shapes) {
  const auto run = [](auto&& make_scheduler, int n) {
    Scheduled s;
    auto scheduler = make_scheduler(s.opt);
    return rates(*scheduler, n);
  };
  expect_near(run([](auto& o) { return std::make_unique<StepLR>(o, 2, 0.5); }, 5),
              {0.8, 0.8, 0.4, 0.4, 0.2});
  expect_near(run(
                  [](auto& o) {
                    return std::make_unique<LambdaLR>(o,
                                                      [](std::int64_t t) { return 1.0 / (1 + t); });
                  },
                  3),
              {0.8, 0.4, 0.8 / 3});
  expect_near(run([](auto& o) { return std::make_unique<CosineAnnealingLR>(o, 4, 0.2); }, 6),
              {0.8, 0.5 + 0.3 * std::sqrt(0.5), 0.5, 0.5 - 0.3 * std::sqrt(0.5), 0.2,
               0.5 - 0.3 * std::sqrt(0.5)});
  expect_near(run([](auto& o) { return std::make_unique<LinearLR>(o, 0.25, 1.0, 3); }, 5),
              {0.2, 0.4, 0.6, 0.8, 0.8});
  expect_near(run([](auto& o) { return std::make_unique<WarmupCosine>(o, 3, 7, 0.1); }, 9),
              {0.2, 0.4, 0.6, 0.8, 0.45 + 0.35 * std::sqrt(0.5), 0.45, 0.45 - 0.35 * std::sqrt(0.5),
               0.1, 0.1});
  expect_near(run(
                  [](auto& o) {
                    std::vector<std::shared_ptr<LRScheduler>> parts{
                        std::make_shared<LinearLR>(o, 0.5, 1.0, 2),
                        std::make_shared<StepLR>(o, 1, 0.1)};
                    return std::make_unique<SequentialLR>(o, parts, std::vector<std::int64_t>{2});
                  },
                  4),
              {0.4, 0.6, 0.8, 0.08});
}

TEST(Schedule, OneCycleGoesUpAndDown) {
  Scheduled s;
  OneCycleLR cycle(s.opt, 1.0, 11,
                   {.pct_start = 0.5, .cosine = false, .div_factor = 10, .final_div_factor = 10});
  EXPECT_NEAR(s.opt.group(0)["lr"], 0.1, 1e-12);
  EXPECT_NEAR(s.opt.group(0)["momentum"], 0.95, 1e-12);
  for (int i = 0; i < 10; ++i) cycle.step();
  EXPECT_NEAR(s.opt.group(0)["lr"], 0.01, 1e-12);
  EXPECT_NEAR(s.opt.group(0)["momentum"], 0.95, 1e-12);
  cycle.step();
  EXPECT_THROW(cycle.step(), Error);
}

TEST(Schedule, StateAndErrors) {
  Scheduled s, t;
  StepLR a(s.opt, 2), b(t.opt, 2);
  for (int i = 0; i < 3; ++i) a.step();
  b.load_state_dict(a.state_dict());
  a.step();
  b.step();
  EXPECT_EQ(a.get_last_lr(), b.get_last_lr());
  EXPECT_EQ(b.last_epoch(), 4);
  EXPECT_THROW(StepLR(s.opt, 0), Error);
  EXPECT_THROW(CosineAnnealingLR(s.opt, 0), Error);
  EXPECT_THROW(LinearLR(s.opt, 0), Error);
  EXPECT_THROW(WarmupCosine(s.opt, 5, 5), Error);
  EXPECT_THROW(SequentialLR(s.opt, {}, {}), Error);
  EXPECT_THROW(b.load_state_dict({1, {0.1, 0.2}, {}}), Error);
}

}  // namespace
}  // namespace lg::optim

// Modules: names, identity, modes, state, copies, hooks, errors.
#include <gtest/gtest.h>

#include "lightgrad/lightgrad.h"

namespace lg::nn {
namespace {

struct Attention : Module {  // two inputs, two results: a free signature
  Child<Linear> qkv, proj;
  explicit Attention(std::int64_t width)
      : qkv(this, "qkv", width, width), proj(this, "proj", width, width) {}
  std::pair<Tensor, Tensor> forward(const Tensor& x, const Tensor& mask) {
    Tensor a = softmax(matmul(qkv(x), transpose(x, 0, 1)) + mask, -1);
    return {proj(matmul(a, x)), a};
  }
};

struct Block : Module {
  Child<LayerNorm> ln1, ln2;
  Child<Attention> attn;
  Child<Sequential> mlp;
  explicit Block(std::int64_t width)
      : ln1(this, "ln1", width),
        ln2(this, "ln2", width),
        attn(this, "attn", width),
        mlp(
            this, "mlp", make<Linear>(width, 4 * width), [](const Tensor& x) { return relu(x); },
            make<Linear>(4 * width, width)) {}
  Tensor forward(const Tensor& x) {
    Tensor y = x + attn(ln1(x), Tensor(0.0)).first;
    return y + mlp(ln2(y));
  }
};

struct Gpt : Module {
  Child<Linear> tok;
  Child<ModuleList> blocks{this, "blocks"};
  Child<Linear> head;
  Buffer pos, cache;
  Gpt(std::int64_t width, int depth)
      : tok(this, "tok", width, width),
        head(this, "head", width, width),
        pos(this, "pos", ones({width})),
        cache(this, "cache", Tensor()) {
    for (int i = 0; i < depth; ++i) blocks->append(make<Block>(width));
    head->weight = tok->weight;  // one parameter, two names
    register_buffer("scratch", zeros({2}), /*persistent=*/false);
  }
  Tensor forward(const Tensor& x) {
    Tensor y = tok(x) + pos;
    for (std::int64_t i = 0; i < blocks->size(); ++i) y = call((*blocks)[i], y);
    return head(y);
  }
};

template <class F> std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}
bool has(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

std::vector<std::string> names_of(const NamedTensors& named) {
  std::vector<std::string> names;
  for (const auto& [name, t] : named) names.push_back(name);
  return names;
}

const std::vector<std::string> block_names = {
    "ln1.weight",      "ln1.bias",      "ln2.weight",       "ln2.bias",
    "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias",
    "mlp.0.weight",    "mlp.0.bias",    "mlp.2.weight",     "mlp.2.bias"};

TEST(Module, NamesStandInOrderAndSharedTensorsOnce) {
  auto m = make<Gpt>(8, 2);
  std::vector<std::string> want = {"tok.weight", "tok.bias"};
  for (const char* block : {"blocks.0.", "blocks.1."})
    for (const auto& name : block_names) want.push_back(block + name);
  auto state = want;
  want.push_back("head.bias");
  state.insert(state.begin(), "pos");
  state.push_back("head.weight");
  state.push_back("head.bias");
  EXPECT_EQ(names_of(m->named_parameters()), want);
  EXPECT_EQ(names_of(m->state_dict()), state);
  EXPECT_EQ(names_of(m->named_buffers()), (std::vector<std::string>{"pos", "scratch"}));
  EXPECT_EQ(m->parameters().size(), want.size());
  EXPECT_EQ(m->named_modules().front().first, "");
  EXPECT_EQ(m->named_modules()[1].first, "tok");
  EXPECT_EQ(m->children().size(), 3u);
  EXPECT_TRUE(m->tok->weight.is_parameter() && m->tok->weight.requires_grad());
  EXPECT_FALSE(m->state_dict()[1].second.requires_grad());
}

TEST(Module, GradientsReachSharedParameters) {
  auto m = make<Gpt>(8, 1);
  sum(m(randn({4, 8}))).backward();
  for (const auto& [name, p] : m->named_parameters()) EXPECT_TRUE(p.grad().defined()) << name;
  EXPECT_TRUE(m->head->weight.is_same(m->tok->weight));
  m->zero_grad();
  EXPECT_FALSE(m->tok->weight.grad().defined());
  m->requires_grad_(false);
  EXPECT_FALSE(m(randn({4, 8})).requires_grad());
}

TEST(Module, CloneIsDeepAndKeepsTies) {
  auto m = make<Gpt>(8, 2);
  auto c = clone(m);
  EXPECT_TRUE(c->head->weight.is_same(c->tok->weight));
  EXPECT_FALSE(c->head->weight.is_same(m->head->weight));
  EXPECT_TRUE(c->tok->weight.is_parameter() && c->tok->weight.requires_grad());
  EXPECT_EQ(names_of(c->state_dict()), names_of(m->state_dict()));
  Tensor x = randn({4, 8});
  EXPECT_EQ(c(x).to_vector<float>(), m(x).to_vector<float>());
  zero_(c->tok->bias.detach());
  fill_(m->tok->bias.detach(), 3);
  EXPECT_EQ(c->tok->bias.to_vector<float>()[0], 0);
  auto names_the_copy = c->find("tok");
  EXPECT_EQ(names_the_copy->child->get(), c->tok.get());
}

TEST(Module, CopyOfAMemberIsAPlainTensor) {
  auto m = make<Linear>(2, 2);
  auto weight = m->weight;
  EXPECT_TRUE(weight.is_same(m->weight));
  weight = zeros({1});
  EXPECT_EQ(m->weight.numel(), 4);
  EXPECT_EQ(m->parameters().size(), 2u);
}

TEST(Module, AssignedTensorsBecomeParameters) {
  auto m = make<Linear>(2, 2);
  m->weight = zeros({2, 2});
  EXPECT_TRUE(m->weight.requires_grad() && m->weight.is_parameter());
  m->bias = Tensor();
  EXPECT_EQ(names_of(m->named_parameters()), std::vector<std::string>{"weight"});
  EXPECT_EQ(m(ones({1, 2})).to_vector<float>(), (std::vector<float>{0, 0}));
}

TEST(Module, LoadStateDictChecksAllThenWrites) {
  auto m = make<Gpt>(8, 1);
  auto other = make<Gpt>(8, 1);
  const void* at = m->tok->weight.raw_data();
  const auto version = m->tok->weight.impl()->storage->version();
  EXPECT_TRUE(m->load_state_dict(other->state_dict()).missing.empty());
  EXPECT_EQ(m->tok->weight.raw_data(), at);
  EXPECT_GT(m->tok->weight.impl()->storage->version(), version);
  EXPECT_EQ(m->tok->weight.to_vector<float>(), other->tok->weight.to_vector<float>());

  const auto before = m->head->bias.to_vector<float>();
  std::map<std::string, Tensor> bad;
  for (auto& [name, t] : other->state_dict()) bad[name] = t + 1;
  bad.erase("tok.bias");
  bad["tok.bais"] = ones({8});
  bad["blocks.0.ln1.weight"] = ones({9});
  const std::string what = error_of([&] { m->load_state_dict(bad); });
  EXPECT_TRUE(has(what, "shape: blocks.0.ln1.weight is [8] here, [9] in the state")) << what;
  EXPECT_TRUE(has(what, "missing: tok.bias") && has(what, "unexpected: tok.bais")) << what;
  EXPECT_EQ(m->head->bias.to_vector<float>(), before);
  EXPECT_TRUE(has(error_of([&] { m->load_state_dict(bad, false); }), "[9] in the state"));

  bad.erase("blocks.0.ln1.weight");
  const LoadResult r = m->load_state_dict(bad, false);
  EXPECT_EQ(r.missing, (std::vector<std::string>{"tok.bias", "blocks.0.ln1.weight"}));
  EXPECT_EQ(r.unexpected, std::vector<std::string>{"tok.bais"});
  EXPECT_EQ(m->head->bias.to_vector<float>()[0], other->head->bias.to_vector<float>()[0] + 1);

  m->load_state_dict(NamedTensors{{"pos", full({8}, 2, DType::float64)}}, false);  // converted
  EXPECT_EQ(m->pos.dtype(), DType::float32);
  EXPECT_EQ(m->pos.to_vector<float>()[3], 2);
}

TEST(Module, ToKeepsIdentity) {
  auto m = make<Gpt>(8, 1);
  Tensor weight = m->tok->weight, y = sum(m(randn({2, 8})));
  y.backward({}, {.retain_graph = true});
  m->register_buffer("count", zeros({1}, DType::int64));
  const auto values = weight.to_vector<float>();
  m->to(DType::float64);
  EXPECT_TRUE(m->tok->weight.is_same(weight) && m->head->weight.is_same(weight));
  EXPECT_EQ(weight.dtype(), DType::float64);
  EXPECT_EQ(weight.grad().dtype(), DType::float64);
  EXPECT_EQ(m->find("count")->tensor->dtype(), DType::int64);
  EXPECT_EQ(weight.to_vector<float>(), values);
  EXPECT_EQ(m(randn({2, 8}, DType::float64)).dtype(), DType::float64);
  EXPECT_TRUE(has(error_of([&] { y.backward(); }), "changed"));  // the old graph notices
  EXPECT_TRUE(has(error_of([&] { m->to(DType::int32); }), "floating-point"));
}

TEST(Module, TrainAndApply) {
  auto m = make<Gpt>(8, 2);
  m->eval();
  for (auto& [name, part] : m->named_modules()) EXPECT_FALSE(part->training) << name;
  m->train();
  EXPECT_TRUE(m->blocks->get<Block>(1).mlp->training);
  std::vector<std::string> seen;
  m->apply([&](Module& part) { seen.push_back(part.type_name()); });
  EXPECT_EQ(seen.front(), "Linear");
  EXPECT_EQ(seen.back(), "Gpt");
}

TEST(Module, Text) {
  EXPECT_EQ(make<Linear>(2, 3)->to_string(), "Linear(in_features=2, out_features=3, bias=True)");
  EXPECT_EQ(make<Sequential>(make<Linear>(2, 3, false), make<Sequential>(make<Dropout>(0.1)))
                ->to_string(),
            "Sequential(\n"
            "  (0): Linear(in_features=2, out_features=3, bias=False)\n"
            "  (1): Sequential(\n"
            "    (0): Dropout(p=0.1)\n"
            "  )\n"
            ")");
}

TEST(Module, MostDerivedForwardRuns) {
  struct Zero : Linear {
    Zero() : Linear(8, 8) {}
    Tensor forward(const Tensor& x) const { return Linear::forward(x) * 0; }
  };
  auto m = make<Gpt>(8, 0);
  m->head = make<Zero>();
  EXPECT_EQ(m(ones({1, 8})).to_vector<float>(), std::vector<float>(8, 0.0f));
}

TEST(Module, ErrorsSayWhere) {
  auto m = make<Gpt>(8, 3);
  m->blocks->get<Block>(2).attn->proj = make<Linear>(9, 8);
  EXPECT_TRUE(has(error_of([&] { m(ones({4, 8})); }), "(in blocks.2.attn.proj)"));
  EXPECT_EQ(current_frame, nullptr);
  EXPECT_TRUE(has(error_of([&] { make<Linear>(3, 4)(ones({4, 8})); }), "(in Linear)"));
  EXPECT_TRUE(has(error_of([&] { Block on_the_stack(8); }), "make<T>"));
  struct ByValue : Module {
    Linear fc{3, 4};
  };
  EXPECT_TRUE(has(error_of([&] { make<ByValue>(); }), "make<T>"));
  EXPECT_TRUE(has(error_of([&] { call(*make<Attention>(8), ones({8})); }), "link of a Sequential"));
  EXPECT_TRUE(has(error_of([&] { call(*make<ModuleList>(), ones({8})); }), "cannot be called") ||
              has(error_of([&] { call(*make<ModuleList>(), ones({8})); }), "link of a Sequential"));
  EXPECT_TRUE(has(error_of([&] { m->register_module("head", make<GELU>().ref()); }),
                  "holds a Linear, got GELU"));
  EXPECT_TRUE(has(error_of([&] { m->register_module("a.b", make<GELU>().ref()); }), "no dot"));
  EXPECT_TRUE(has(error_of([&] { m->blocks->append(Mod<>(m)); }), "contain itself"));
  EXPECT_EQ(m->blocks->size(), 3);
  EXPECT_TRUE(has(error_of([&] { m->remove("head"); }), "member of the C++ class"));
  EXPECT_TRUE(has(error_of([&] { (*m->blocks)[3]; }), "no module 3 in a list of 3"));
  struct Twice : Module {
    Child<GELU> a{this, "a"}, b{this, "a"};  // NOLINT
  };
  EXPECT_TRUE(has(error_of([&] { make<Twice>(); }), "declared twice"));
  m = make<Gpt>(8, 0);
  m->clear_entry("head");
  EXPECT_TRUE(has(error_of([&] { m(ones({4, 8})); }), "missing"));
}

TEST(Module, RecordedNodesKnowTheirModule) {
  auto m = make<Gpt>(8, 1);
  autograd::keep_module_paths = true;
  Tensor y = m(ones({4, 8}));
  autograd::keep_module_paths = false;
  ASSERT_TRUE(y.node() && y.node()->module_path);
  EXPECT_EQ(*y.node()->module_path, "head");
}

TEST(Module, HooksSeeAndReplace) {
  auto m = make<Sequential>(make<Identity>(), make<Identity>());
  Tensor x = ones({2});
  const int before = (*m)[0].register_forward_pre_hook(
      [](Module&, std::span<Tensor> in, Tensor*) { in[0] = in[0] * 3; });
  const int after = (*m)[1].register_forward_hook(
      [](Module&, std::span<Tensor>, Tensor* out) { *out = *out + 1; });
  EXPECT_EQ(m(x).to_vector<float>(), (std::vector<float>{4, 4}));
  (*m)[0].remove_hook(before);
  EXPECT_EQ(m(x).to_vector<float>(), (std::vector<float>{2, 2}));
  (*m)[1].remove_hook(after);
  EXPECT_EQ(m(x).to_vector<float>(), (std::vector<float>{1, 1}));
  EXPECT_EQ((*m)[1].hooks(), nullptr);

  auto attn = make<Attention>(4);
  int calls = 0;
  attn->register_forward_hook([&](Module&, std::span<Tensor> in, Tensor* out) {
    calls += in.size() == 2 && out == nullptr;
  });
  attn(ones({4, 4}), Tensor(0.0));
  EXPECT_EQ(calls, 1);
}

TEST(Module, ListsChangeInPlace) {
  auto list = make<ModuleList>();
  list->append(make<ReLU>());
  list->append(make<Tanh>());
  list->insert(1, make<GELU>().ref());
  EXPECT_EQ((*list)[1].type_name(), "GELU");
  EXPECT_EQ((*list)[-1].type_name(), "Tanh");
  list->erase(0);
  EXPECT_EQ(list->size(), 2);
  EXPECT_EQ((*list)[0].type_name(), "GELU");
  EXPECT_TRUE(has(error_of([&] { list->get<Linear>(0); }), "is a GELU, not a Linear"));
  auto dict = make<ModuleDict>();
  dict->set("act", make<ReLU>());
  EXPECT_EQ((*dict)["act"].type_name(), "ReLU");
  EXPECT_TRUE(has(error_of([&] { (*dict)["no"]; }), "no module \"no\""));
}

}  // namespace
}  // namespace lg::nn

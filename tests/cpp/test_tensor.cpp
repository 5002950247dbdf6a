// test_tensor.cpp: what a tensor is: strided views and their rules, indexing against plain loops,
// copies and in-place changes, dtype promotion, creation, printing.
#include <numeric>

#include "tests/cpp/tensor_testing.h"

namespace lg::testing {
namespace {

Tensor counted(const Shape& shape, DType dtype = DType::float64) {
  return to(reshape(arange(shape.numel()), shape), dtype);
}
bool shares(const Tensor& a, const Tensor& b) {
  return a.impl()->storage.get() == b.impl()->storage.get();
}
Line values(const Tensor& t) { return t.to_vector<double>(); }

// x's element at `index`, by its strides alone.
double at(const Tensor& x, const std::vector<std::int64_t>& index) {
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < index.size(); ++i)
    offset += index[i] * x.strides()[static_cast<int>(i)];
  return x.data<double>()[offset];
}

TEST(Tensor, ViewsShareMemory) {
  const Tensor x = counted({2, 3, 4});
  for (const Tensor& v :
       {transpose(x, 0, 2), permute(x, {1, 2, 0}), view(x, {4, 6}),
        expand(unsqueeze(x, 0), {5, 2, 3, 4}), squeeze(unsqueeze(x, 1)), flatten(x),
        slice(x, 2, 3, -5, -2), select(x, 1, -1), narrow(x, 1, 1, 2), x.index({Ellipsis, 1, None}),
        x.detach(), split(x, 2, 2)[1], chunk(x, 2, 1)[1], unbind(x, 0)[1]}) {
    EXPECT_TRUE(shares(v, x)) << v.shape().to_string();
  }
  for (const Tensor& c : {x.copy(), clone(x), contiguous(transpose(x, 0, 1)),
                          reshape(transpose(x, 0, 2), {6, 4}), flip(x, 0).copy()}) {
    EXPECT_FALSE(shares(c, x));
  }
  EXPECT_TRUE(contiguous(x).is_same(x) && to(x, DType::float64).is_same(x));
}

TEST(Tensor, Strides) {
  const Tensor x = counted({2, 3, 4});
  EXPECT_EQ(x.strides(), (Shape{12, 4, 1}));
  EXPECT_EQ(permute(x, {2, 0, 1}).strides(), (Shape{1, 12, 4}));
  EXPECT_EQ(expand(counted({3, 1}), {2, 3, 4}).strides(), (Shape{0, 1, 0}));
  const Tensor back = slice(x, 2, -1, -5, -2);
  EXPECT_EQ(back.shape(), (Shape{2, 3, 2}));
  EXPECT_EQ(back.strides(), (Shape{12, 4, -2}));
  EXPECT_EQ(values(select(select(back, 0, 0), 0, 0)), (Line{3, 1}));
  EXPECT_EQ(at(permute(x, {2, 0, 1}), {3, 1, 2}), 12 + 8 + 3);
  EXPECT_TRUE(x.is_contiguous() && !transpose(x, 0, 1).is_contiguous() &&
              transpose(zeros({1, 5}), 0, 1).is_contiguous());
  EXPECT_EQ(x.size(-1), 4);
  EXPECT_EQ(slice(x, 0, 0, 2, INT64_MAX).shape(), (Shape{1, 3, 4}));
  EXPECT_EQ(slice(x, 0, -1, INT64_MIN, INT64_MIN).shape(), (Shape{1, 3, 4}));
}

// A view exists exactly when the elements can be reached with one stride per dimension.
TEST(Tensor, ViewOfStridedTensors) {
  const Tensor x = counted({4, 6});
  EXPECT_EQ(view(slice(x, 0, 0, 4, 2), {2, 2, 3}).strides(), (Shape{12, 3, 1}));
  EXPECT_EQ(view(transpose(x, 0, 1), {2, 3, 4}).strides(), (Shape{3, 1, 6}));
  EXPECT_EQ(view(slice(x, 1, 0, 6, 3), {8}).strides(), (Shape{3}));
  EXPECT_EQ(values(view(slice(x, 1, 0, 6, 3), {8})), (Line{0, 3, 6, 9, 12, 15, 18, 21}));
  expect_error(ErrorKind::value, {"without a copy"}, [&] { view(slice(x, 1, 0, 3), {12}); });
  EXPECT_EQ(values(reshape(slice(x, 1, 0, 3), {12})), values(slice(x, 1, 0, 3)));
  EXPECT_EQ(view(zeros({0, 3}), {7, 0}).shape(), (Shape{7, 0}));
}

// Slices against Python's rules, spelled out.
TEST(Tensor, SlicesAsInPython) {
  const Tensor x = counted({5});
  const std::optional<std::int64_t> bounds[] = {{}, -9, -5, -2, -1, 0, 1, 3, 4, 5, 9};
  for (const auto& start : bounds) {
    for (const auto& stop : bounds) {
      for (const std::int64_t step : {1, 2, 3, 9, -1, -2, -7}) {
        auto place = [&](std::optional<std::int64_t> i, std::int64_t otherwise) {
          if (!i) return otherwise;
          const std::int64_t j = *i < 0 ? *i + 5 : *i;
          return step > 0 ? std::clamp<std::int64_t>(j, 0, 5) : std::clamp<std::int64_t>(j, -1, 4);
        };
        Line expected;
        const std::int64_t from = place(start, step > 0 ? 0 : 4),
                           to = place(stop, step > 0 ? 5 : -1);
        for (std::int64_t i = from; step > 0 ? i < to : i > to; i += step)
          expected.push_back(static_cast<double>(i));
        ASSERT_EQ(values(x.index({Slice(start, stop, step)})), expected)
            << start.value_or(99) << ':' << stop.value_or(99) << ':' << step;
      }
    }
  }
}

TEST(Tensor, IndexingAgainstLoops) {
  const Tensor x = counted({4, 5, 6});
  const Tensor i = tensor<std::int64_t>({3, -1, 0}), j = tensor<std::int64_t>({1, 2, -5});
  Line expected;
  for (int k = 0; k < 3; ++k)
    for (int c = 0; c < 6; ++c)
      expected.push_back(
          at(x, {(i.data<std::int64_t>()[k] + 4) % 4, (j.data<std::int64_t>()[k] + 5) % 5, c}));
  EXPECT_EQ(values(x.index({i, j})), expected);

  const Tensor row = x.index({Slice(), reshape(i, {3, 1}), Slice(1, 3)});  // [4, 3, 1, 2]
  EXPECT_EQ(row.shape(), (Shape{4, 3, 1, 2}));
  EXPECT_EQ(at(row, {2, 1, 0, 1}), at(x, {2, 4, 2}));
  const Tensor apart = x.index({i, Slice(), j});  // indices that are not neighbours go in front
  EXPECT_EQ(apart.shape(), (Shape{3, 5}));
  EXPECT_EQ(at(apart, {1, 3}), at(x, {3, 3, 2}));
  EXPECT_EQ(x.index({i, None, j}).shape(), (Shape{3, 1, 6}));
  EXPECT_EQ(x.index({None, Ellipsis, 2}).shape(), (Shape{1, 4, 5}));

  const Tensor mask = x > 100, picked = x.index({mask});
  EXPECT_EQ(picked.numel(), 19);
  EXPECT_EQ(values(picked)[0], 101);
  EXPECT_EQ(x.index({ones({4, 5}, DType::bool_)}).shape(), (Shape{20, 6}));
  EXPECT_EQ(x.index({zeros({4}, DType::bool_)}).shape(), (Shape{0, 5, 6}));
  EXPECT_EQ(counted({2, 3}, DType::bool_).index({1}).to_vector<bool>(),
            (std::vector<bool>{true, true, true}));
}

TEST(Tensor, AssignmentAgainstLoops) {
  const Tensor i = tensor<std::int64_t>({3, 1}), j = tensor<std::int64_t>({0, -1});
  Tensor x = counted({4, 5});
  x.index_put({i, j}, tensor({100.0, 200.0}));
  EXPECT_EQ(at(x, {3, 0}), 100);
  EXPECT_EQ(at(x, {1, 4}), 200);
  EXPECT_EQ(at(x, {3, 1}), 16);
  x.index_put({Slice(0, 4, 2), 1}, -1);
  EXPECT_EQ(at(x, {0, 1}) + at(x, {2, 1}), -2);
  x.index_put({x > 50}, 0);
  EXPECT_EQ(amax(x).item(), 19);
  x.index_put({Slice({}, {}, -1)}, counted({1, 4, 5}));  // leading sizes of 1 are dropped
  EXPECT_EQ(at(x, {3, 2}), 2);
  x.index_put({i}, counted({5}));
  EXPECT_EQ(values(x.index({3})), values(counted({5})));
  x.index_put({Slice(0, 3)}, x.index({Slice(1, 4)}));  // from itself, overlapping
  EXPECT_EQ(values(x.index({2})), values(counted({5})));
  Tensor whole = counted({3}, DType::int64);
  whole.index_put({0}, 2.9);
  EXPECT_EQ(whole.to_vector<std::int64_t>(), (std::vector<std::int64_t>{2, 1, 2}));
}

TEST(Tensor, InPlace) {
  const Tensor x = counted({3, 4}), base = x;
  transpose(x, 0, 1) += tensor({1.0, 2.0, 3.0});
  EXPECT_EQ(at(base, {2, 0}), 8 + 3);
  x -= x;
  EXPECT_EQ(sum(base).item(), 0);
  fill_(x, 2);
  mul_(x, 3.5);
  div_(x, 2);
  EXPECT_EQ(values(select(x, 0, 0)), (Line(4, 3.5)));
  Tensor y = counted({6});
  slice(y, 0, 1, 6) += slice(y, 0, 0, 5);  // reads what it writes, in another order
  EXPECT_EQ(values(y), (Line{0, 1, 3, 5, 7, 9}));
  y = counted({2, 2});
  y += transpose(y, 0, 1);
  EXPECT_EQ(values(y), (Line{0, 3, 3, 6}));
  const auto version = y.impl()->storage->version();
  zero_(y);
  EXPECT_GT(y.impl()->storage->version(), version);
  Tensor half = ones({3}, DType::float16);
  half += 0.5;
  EXPECT_EQ(name_of(half.dtype()), "float16");
  Tensor narrow = counted({2}, DType::float32);
  narrow += tensor({0.25, 0.5});
  EXPECT_EQ(name_of(narrow.dtype()), "float32");
  copy_(narrow, tensor<std::int64_t>({7}));
  EXPECT_EQ(values(narrow), (Line{7, 7}));
}

TEST(Tensor, Copies) {
  const Tensor x = counted({2, 3}), t = transpose(x, 0, 1), c = t.copy();
  EXPECT_TRUE(c.is_contiguous());
  EXPECT_EQ(values(c), (Line{0, 3, 1, 4, 2, 5}));
  c.data<double>()[0] = 9;
  EXPECT_EQ(at(x, {0, 0}), 0);
  const std::vector<std::int32_t> ints = t.to_vector<std::int32_t>();
  EXPECT_EQ(std::accumulate(ints.begin(), ints.end(), 0), 15);
  EXPECT_EQ(values(expand(counted({3}), {2, 3}).copy()), (Line{0, 1, 2, 0, 1, 2}));
  for (const DType from : {DType::bool_, DType::uint8, DType::int32, DType::int64, DType::float16,
                           DType::bfloat16, DType::float32, DType::float64}) {
    for (const DType through : {DType::int32, DType::int64, DType::float16, DType::bfloat16,
                                DType::float32, DType::float64}) {
      const Tensor v = to(tensor({0.0, 1.0, 1.0}), from);
      expect_equal(to(to(v, through), from), v, text(name_of(from), " through ", name_of(through)));
    }
  }
  EXPECT_EQ(tensor({2.75}).item<std::int64_t>(), 2);
  EXPECT_EQ(full({1, 1}, true).item<bool>(), true);
}

TEST(Tensor, StorageBounds) {
  const Tensor x = counted({6});
  EXPECT_EQ(values(Tensor::on(x.impl()->storage, {2, 2}, {2, -1}, 1, DType::float64)),
            (Line{1, 0, 3, 2}));
  expect_error(ErrorKind::value, {"reaches outside its storage of 6 elements"},
               [&] { Tensor::on(x.impl()->storage, {4}, {2}, 0, DType::float64); });
  expect_error(ErrorKind::value, {"reaches outside"},
               [&] { Tensor::on(x.impl()->storage, {2}, {-1}, 0, DType::float64); });
  EXPECT_EQ(Tensor::on(x.impl()->storage, {0}, {9}, 99, DType::float64).numel(), 0);
}

// torch.result_type, from its documentation: a dimensioned tensor outranks a 0-d one, which
// outranks a number; a lower rank has a say only when its kind (bool, integer, floating) is higher.
TEST(Tensor, Promotion) {
  const DType b = DType::bool_, u8 = DType::uint8, i32 = DType::int32, i64 = DType::int64,
              f16 = DType::float16, bf16 = DType::bfloat16, f32 = DType::float32,
              f64 = DType::float64;
  const DType order[] = {b, u8, i32, i64, f16, bf16, f32, f64};
  const DType table[8][8] = {
      {b, u8, i32, i64, f16, bf16, f32, f64},    {u8, u8, i32, i64, f16, bf16, f32, f64},
      {i32, i32, i32, i64, f16, bf16, f32, f64}, {i64, i64, i64, i64, f16, bf16, f32, f64},
      {f16, f16, f16, f16, f16, f32, f32, f64},  {bf16, bf16, bf16, bf16, f32, bf16, f32, f64},
      {f32, f32, f32, f32, f32, f32, f32, f64},  {f64, f64, f64, f64, f64, f64, f64, f64}};
  auto kind = [](DType t) { return t == DType::bool_ ? 0 : is_integral(t) ? 1 : 2; };
  for (int p = 0; p < 8; ++p) {
    for (int q = 0; q < 8; ++q) {
      const DType s = order[p], t = order[q];
      const Tensor x = ones({2}, s), y = ones({2}, t), zero_dim = ones({}, t);
      EXPECT_EQ(name_of((x + y).dtype()), name_of(table[p][q]))
          << name_of(s) << " + " << name_of(t);
      const DType expected = kind(t) > kind(s) ? t : s;
      EXPECT_EQ(name_of((x + zero_dim).dtype()), name_of(expected))
          << name_of(s) << " + 0-d " << name_of(t);
      EXPECT_EQ(name_of((zero_dim + x).dtype()), name_of(expected))
          << "0-d " << name_of(t) << " + " << name_of(s);
      EXPECT_EQ(name_of((ones({}, s) + zero_dim).dtype()), name_of(table[p][q])) << "both 0-d";
      EXPECT_EQ(name_of(where(x > 0, x, zero_dim).dtype()), name_of(expected));
    }
    for (const Shape& shape : {Shape{2}, Shape{}}) {
      const Tensor x = ones(shape, order[p]);
      EXPECT_EQ(name_of((x + 2.5).dtype()), name_of(kind(order[p]) == 2 ? order[p] : f32));
      EXPECT_EQ(name_of((3 * x).dtype()), name_of(order[p] == b ? i64 : order[p]));
      EXPECT_EQ(name_of((x + true).dtype()), name_of(order[p]));
    }
    EXPECT_EQ(name_of((ones({2}, order[p]) / 2).dtype()),
              name_of(kind(order[p]) == 2 ? order[p] : f32));
    EXPECT_EQ(name_of((ones({2}, order[p]) < 2).dtype()), "bool");
  }
  EXPECT_EQ(name_of((Tensor(2) + 3).dtype()), "int64");
  EXPECT_EQ(name_of((Tensor(2) + 3.5).dtype()), "float32");
  set_default_dtype(f64);
  EXPECT_EQ(name_of((ones({2}, i64) * 0.5).dtype()), "float64");
  EXPECT_EQ(name_of(zeros({2}).dtype()), "float64");
  set_default_dtype(f32);
}

TEST(Tensor, Creation) {
  EXPECT_EQ(arange(2, 9, 3).to_vector<std::int64_t>(), (std::vector<std::int64_t>{2, 5, 8}));
  EXPECT_EQ(arange(5, 0, -2).to_vector<std::int64_t>(), (std::vector<std::int64_t>{5, 3, 1}));
  EXPECT_EQ(arange(INT64_MAX - 1, INT64_MAX).numel(), 1);
  EXPECT_EQ(arange(INT64_MIN, INT64_MAX, INT64_MAX).numel(), 3);
  EXPECT_EQ(name_of(arange(0, 1, 0.25).dtype()), "float32");
  EXPECT_EQ(values(arange(0, 1, 0.25)), (Line{0, 0.25, 0.5, 0.75}));
  EXPECT_EQ(values(linspace(0, 1, 3)), (Line{0, 0.5, 1}));
  EXPECT_EQ(values(eye(2, 3)), (Line{1, 0, 0, 0, 1, 0}));
  EXPECT_EQ(name_of(full({2}, 3).dtype()), "int64");
  EXPECT_EQ(name_of(full({2}, 3.5).dtype()), "float32");
  EXPECT_EQ(name_of(full({2}, 3, DType::float16).dtype()), "float16");
  manual_seed(5);
  const Tensor a = randn({100}), b = rand({100}), c = randint(-3, 4, {100}), d = randperm(50);
  manual_seed(5);
  EXPECT_TRUE(same_bits(a, randn({100})) && same_bits(b, rand({100})) &&
              same_bits(c, randint(-3, 4, {100})) && same_bits(d, randperm(50)));
  EXPECT_GE(amin(b).item(), 0);
  EXPECT_LT(amax(b).item(), 1);
  EXPECT_EQ(amin(c).item(), -3);
  EXPECT_EQ(amax(c).item(), 3);
  EXPECT_EQ(sort(d).values.to_vector<std::int64_t>(), arange(50).to_vector<std::int64_t>());
  EXPECT_EQ(zeros_like(a).shape(), a.shape());
}

TEST(Tensor, Printing) {
  EXPECT_EQ(arange(3).to_string(), "tensor([0, 1, 2])");
  EXPECT_EQ(tensor({1.0f, -2.5f}).to_string(), "tensor([ 1. , -2.5])");
  EXPECT_EQ(tensor<std::int64_t>({1, -20, 3, 4}, {2, 2}).to_string(),
            "tensor([[  1, -20],\n        [  3,   4]])");
  EXPECT_EQ(zeros({2}, DType::bool_).to_string(), "tensor([False, False])");
  EXPECT_EQ(Tensor(7).to_string(), "tensor(7)");
  EXPECT_EQ(Tensor().to_string(), "tensor(undefined)");
  EXPECT_NE(zeros({2}, DType::float64).to_string().find("dtype=float64"), std::string::npos);
  EXPECT_NE(zeros({2}).set_requires_grad().to_string().find("requires_grad=True"),
            std::string::npos);
  EXPECT_NE(zeros({2000}).to_string().find("..."), std::string::npos);
  EXPECT_NE(transpose(arange(6), 0, 0).to_string().find("5"), std::string::npos);
  EXPECT_EQ(zeros({2, 3}).describe(), "float32 [2, 3]");
}

TEST(Tensor, Einsum) {
  const Tensor a = uniform({2, 3, 4}, -1, 1, 1), b = uniform({2, 4, 5}, -1, 1, 2),
               m = uniform({3, 3}, -1, 1, 3), v = uniform({4}, -1, 1, 4);
  expect_close(einsum("bij,bjk->bik", {a, b}), matmul(a, b), 1e-13, "batched");
  expect_close(einsum("...j,j", {a, v}), matmul(a, v), 1e-13, "ellipsis");
  expect_close(einsum("ii", {m}), sum(m * eye(3, -1, DType::float64)), 1e-13, "trace");
  expect_close(einsum("ij->ji", {m}), transpose(m, 0, 1), 0, "transpose");
  expect_close(einsum("bij,j,bjk->ki", {a, v, b}), sum(transpose(matmul(a * v, b), 1, 2), 0), 1e-13,
               "three");
  EXPECT_TRUE(
      autograd::gradcheck([](const Tensors& x) { return Tensors{einsum("bij,bjk->ik", x)}; },
                          {a.detach().set_requires_grad(), b.detach().set_requires_grad()}));
}

}  // namespace
}  // namespace lg::testing

// test_errors.cpp: bad input to tensors and operations: each is an error of the right kind, whose
// text names the operation, what it got and what it expected, and which leaves everything as it
// was.
#include "tests/cpp/tensor_testing.h"

namespace lg::testing {
namespace {

constexpr std::int64_t huge = std::int64_t{1} << 40;

TEST(Errors, Broadcasting) {
  expect_error(ErrorKind::value,
               {"add: shapes [2, 3] and [4] do not broadcast: dimension -1 is 3 and 4"}, [] {
                 zeros({2, 3}) + zeros({4});
               });
  expect_error(ErrorKind::value, {"where: shapes [2] and [3]"},
               [] { where(zeros({2}, DType::bool_), zeros({3}), 0); });
  expect_error(ErrorKind::value,
               {"expand: x [3] cannot be expanded to [2, 4]", "is 3, expected 1 or 4"}, [] {
                 expand(zeros({3}), {2, 4});
               });
  const Tensor x = ones({3});
  expect_error(ErrorKind::value, {"add: in place on float32 [3]", "shape [2, 3]"}, [&] {
    add_(x, ones({2, 3}));
  });
  EXPECT_EQ(x.to_vector<double>(), (Line{1, 1, 1}));
}

TEST(Errors, Dtypes) {
  expect_error(ErrorKind::type, {"matmul: x is float32, y is float64", "to()"}, [] {
    matmul(zeros({2, 2}), zeros({2, 2}, DType::float64));
  });
  expect_error(ErrorKind::type, {"mean: x is int64 [3]", "floating-point"},
               [] { mean(arange(3)); });
  expect_error(ErrorKind::type, {"softmax: x is int64 [3]"}, [] { softmax(arange(3)); });
  expect_error(ErrorKind::type, {"var: x is int64"}, [] { var(arange(3)); });
  expect_error(ErrorKind::type, {"where: condition is float32 [2], expected bool"},
               [] { where(zeros({2}), 1, 0); });
  expect_error(ErrorKind::type, {"masked_fill: mask is float32 [2], expected bool"},
               [] { masked_fill(zeros({2}), zeros({2}), 1); });
  expect_error(ErrorKind::type, {"gather: index is float32 [2], expected an integer"},
               [] { gather(zeros({2}), 0, zeros({2})); });
  expect_error(ErrorKind::type, {"in place on int64 [3], but the result is float32"},
               [] { add_(arange(3), 0.5); });
  expect_error(ErrorKind::type, {"in place on bool [3], but the result is int64"},
               [] { add_(zeros({3}, DType::bool_), 1); });
  expect_error(ErrorKind::type, {"data: the tensor is float32, read as float64"},
               [] { zeros({3}).data<double>(); });
  expect_error(ErrorKind::type, {"rand: expected a floating-point dtype, got int64"},
               [] { rand({2}, DType::int64); });
  expect_error(ErrorKind::type, {"set_default_dtype: expected a floating-point dtype, got int32"},
               [] { set_default_dtype(DType::int32); });
}

TEST(Errors, Undefined) {
  expect_error(ErrorKind::type, {"add: y is undefined"}, [] { zeros({2}) + Tensor(); });
  expect_error(ErrorKind::type, {"linear: weight is undefined"},
               [] { linear(zeros({2}), Tensor()); });
  expect_error(ErrorKind::type, {"cat: tensors is undefined"}, [] { cat({zeros({2}), Tensor()}); });
}

TEST(Errors, AxesAndIndices) {
  const Tensor x = zeros({2, 3});
  expect_error(ErrorKind::index, {"sum: axis 2 is out of range for 2 dimensions, expected -2 to 1"},
               [&] { sum(x, 2); });
  expect_error(ErrorKind::value, {"sum: dimension 1 is named twice"}, [&] { sum(x, {1, -1}); });
  expect_error(ErrorKind::index, {"transpose: axis -3"}, [&] { transpose(x, 0, -3); });
  expect_error(ErrorKind::index, {"softmax: axis 2"}, [&] { softmax(x, 2); });
  expect_error(ErrorKind::value, {"permute: dims [0, 0] name dimension 0 twice"}, [&] {
    permute(x, {0, 0});
  });
  expect_error(ErrorKind::value, {"permute: dims [0] name 1 dimensions"}, [&] { permute(x, {0}); });
  expect_error(ErrorKind::index, {"select: index 3 is out of range for dimension 1 of size 3"},
               [&] { select(x, 1, 3); });
  expect_error(ErrorKind::index, {"index -3 is out of range for dimension 0 of size 2"},
               [&] { x.index({-3}); });
  expect_error(ErrorKind::index, {"too many indices: 3 for a tensor of 2 dimensions"}, [&] {
    x.index({0, 0, 0});
  });
  expect_error(ErrorKind::index, {"at most one ellipsis"}, [&] { x.index({Ellipsis, Ellipsis}); });
  expect_error(ErrorKind::index, {"index 2 is out of range for dimension 0 of size 2"}, [&] {
    x.index({tensor<std::int64_t>({0, 2})});
  });
  expect_error(ErrorKind::index, {"a mask of shape [3] does not fit dimension 0 of size 2"},
               [&] { x.index({ones({3}, DType::bool_)}); });
  expect_error(ErrorKind::type, {"an index tensor is float32 [2]"}, [&] { x.index({zeros({2})}); });
  expect_error(ErrorKind::index, {"do not broadcast together"}, [&] {
    x.index({tensor<std::int64_t>({0, 1}), tensor<std::int64_t>({0, 1, 1})});
  });
  expect_error(ErrorKind::value, {"index_put: shapes [2, 3] and [2] do not broadcast"}, [&] {
    x.index_put({tensor<std::int64_t>({0, 1})}, ones({2}));
  });
  expect_error(ErrorKind::value, {"[4]", "[3]"}, [&] { x.index_put({0}, ones({4})); });
  expect_error(ErrorKind::index, {"gather: index 2 is out of range for size 2, expected -2 to 1"},
               [&] {
                 gather(x, 0, full({1, 1}, 2));
               });
  expect_error(ErrorKind::index, {"index_select: index 9"},
               [&] { index_select(x, 1, full({1}, 9)); });
  expect_error(ErrorKind::index, {"embedding: id 2 is out of range, expected 0 to 1"},
               [&] { embedding(full({1}, 2), x); });
  expect_error(ErrorKind::index, {"narrow: start 1 with length 3"}, [&] { narrow(x, 1, 1, 3); });
  expect_error(ErrorKind::index, {"narrow"}, [&] { narrow(x, 1, 1, INT64_MAX); });
  expect_error(ErrorKind::value, {"slice: step is 0"}, [&] { slice(x, 0, 0, 1, 0); });
  expect_error(ErrorKind::value, {"topk: k is 4, expected 0 to 3"}, [&] { topk(x, 4); });
  expect_error(ErrorKind::index, {"one_hot: x has values from -1 to 1"}, [] {
    one_hot(tensor<std::int64_t>({-1, 1}), 3);
  });
  EXPECT_EQ(sum(x).item(), 0) << "a refused assignment writes nothing";
}

TEST(Errors, ReductionsOfNothing) {
  expect_error(ErrorKind::value, {"amax: of no elements (x [0])"}, [] { amax(zeros({0})); });
  expect_error(ErrorKind::value, {"amin: of no elements (x [2, 0])"}, [] {
    amin(zeros({2, 0}), 1);
  });
  expect_error(ErrorKind::value, {"argmax: of no elements"}, [] { argmax(zeros({0})); });
  EXPECT_EQ(amax(zeros({2, 0}), 0).numel(), 0);
  EXPECT_EQ(sum(zeros({0})).item(), 0);
  EXPECT_EQ(prod(zeros({0})).item(), 1);
  EXPECT_TRUE(std::isnan(mean(zeros({0})).item()));
}

TEST(Errors, Classes) {
  const Tensor x = zeros({2, 3});
  expect_error(ErrorKind::index,
               {"cross_entropy: target 3 at row 1 is out of range for 3 classes, expected 0 to 2"},
               [&] {
                 cross_entropy(x, tensor<std::int64_t>({0, 3}));
               });
  expect_error(ErrorKind::value,
               {"cross_entropy: target has shape [3], expected [2] for logits [2, 3]"},
               [&] { cross_entropy(x, zeros({3}, DType::int64)); });
  expect_error(ErrorKind::value, {"label_smoothing is 2"},
               [&] { cross_entropy(x, zeros({2}, DType::int64), Tensor(), -100, "mean", 2.0); });
  expect_error(ErrorKind::value, {"reduction is \"avg\""},
               [&] { cross_entropy(x, zeros({2}, DType::int64), Tensor(), -100, "avg"); });
  expect_error(ErrorKind::value, {"cross_entropy: weight is float32 [2], expected float32 [3]"},
               [&] { cross_entropy(x, zeros({2}, DType::int64), zeros({2})); });
  expect_error(ErrorKind::type, {"nll_loss: target is int32 [2]"},
               [&] { nll_loss(x, zeros({2}, DType::int32)); });
}

TEST(Errors, Sizes) {
  expect_error(ErrorKind::value, {"zeros: negative dimension -1 in shape [2, -1]"}, [] {
    zeros({2, -1});
  });
  expect_error(ErrorKind::value, {"zeros: shape", "more bytes than fit in 64 bits"}, [] {
    zeros({huge, huge});
  });
  expect_error(ErrorKind::memory, {"memory"}, [] { zeros({huge, 64}); });
  EXPECT_EQ(zeros({huge, huge, 0}).numel(), 0);
  expect_error(ErrorKind::value, {"expand"}, [] { expand(zeros({1}), {huge, huge}); });
  const Tensor wide = expand(zeros({1}, DType::uint8), {huge << 22});
  expect_error(ErrorKind::value, {"cat: dimension 0 of the result does not fit"}, [&] {
    cat({wide, wide, wide, wide});
  });
  expect_error(ErrorKind::value, {"at most 8 dimensions"}, [] {
    Tensor x = zeros({1});
    for (int i = 0; i < 8; ++i) x = unsqueeze(x, 0);
  });
  expect_error(ErrorKind::value, {"reshape: shape [4] has 4 elements, x has 6 (x [2, 3])"}, [] {
    reshape(zeros({2, 3}), {4});
  });
  expect_error(ErrorKind::value, {"reshape: only one size can be -1"}, [] {
    reshape(zeros({2, 3}), {-1, -1});
  });
  expect_error(ErrorKind::value, {"reshape", "does not fit 6 elements"}, [] {
    reshape(zeros({2, 3}), {-1, 4});
  });
  expect_error(ErrorKind::value, {"reshape", "more elements than fit"}, [] {
    reshape(zeros({0, 3}), {huge, huge});
  });
  expect_error(ErrorKind::value, {"reshape: negative dimension -2"}, [] {
    reshape(zeros({2, 3}), {-2, 3});
  });
  expect_error(ErrorKind::value,
               {"view: x [3, 2] with strides [1, 3] cannot be seen as [6] without a copy"}, [] {
                 view(transpose(zeros({2, 3}), 0, 1), {6});
               });
  expect_error(ErrorKind::value, {"split", "add up to 3, expected 2"}, [] {
    split(zeros({2, 3}), {1, 2});
  });
  expect_error(ErrorKind::value, {"split"}, [] {
    split(zeros({2, 3}), {INT64_MAX, INT64_MAX, 4});
  });
  expect_error(ErrorKind::value, {"chunk: chunks is 0"}, [] { chunk(zeros({2}), 0); });
  expect_error(ErrorKind::value, {"cat: got no tensors"}, [] { cat({}); });
  expect_error(ErrorKind::value, {"cat: tensor 1 has shape [3], tensor 0 [2, 3]"}, [] {
    cat({zeros({2, 3}), zeros({3})});
  });
  expect_error(ErrorKind::value, {"stack: tensor 1 has shape [3], tensor 0 [2]"}, [] {
    stack({zeros({2}), zeros({3})});
  });
  expect_error(ErrorKind::value, {"item: expected a tensor with one element, got shape [2]"},
               [] { zeros({2}).item(); });
  expect_error(ErrorKind::value, {"arange: step is 0"}, [] { arange(0, 3, 0); });
  expect_error(ErrorKind::value, {"arange", "finite"}, [] { arange(0, INFINITY, 1); });
  expect_error(ErrorKind::value, {"linspace: steps is -1"}, [] { linspace(0, 1, -1); });
  expect_error(ErrorKind::value, {"randint: low 3 is not below high 3"},
               [] { randint(3, 3, {2}); });
  expect_error(ErrorKind::value, {"tensor: got 2 values for shape [3]"}, [] {
    tensor({1.0, 2.0}, {3});
  });
}

TEST(Errors, ShapesOfProductsAndLayers) {
  expect_error(ErrorKind::value, {"matmul: x has 3 columns, y has 2 rows (x [2, 3], y [2, 3])"},
               [] {
                 matmul(zeros({2, 3}), zeros({2, 3}));
               });
  expect_error(ErrorKind::value, {"matmul: vectors of sizes 2 and 3"},
               [] { matmul(zeros({2}), zeros({3})); });
  expect_error(ErrorKind::value, {"matmul: 0-d"}, [] { matmul(zeros({}), zeros({3})); });
  expect_error(ErrorKind::value,
               {"linear: x has 3 features, weight expects 4 (x [2, 3], weight [5, 4])"}, [] {
                 linear(zeros({2, 3}), zeros({5, 4}));
               });
  expect_error(ErrorKind::value,
               {"linear_activation: x has 3 features, weight expects 4 (x [2, 3], weight [5, 4])"},
               [] {
                 linear_activation(zeros({2, 3}), zeros({5, 4}), {});
               });
  expect_error(ErrorKind::value,
               {"linear_activation: activation is \"mish\", expected \"relu\", \"gelu\""}, [] {
                 linear_activation(zeros({2, 3}), zeros({5, 3}), {}, "mish");
               });
  expect_error(ErrorKind::type, {"linear_activation: x is int64 [2, 3], expected a floating-point"},
               [] {
                 linear_activation(zeros({2, 3}, DType::int64), zeros({5, 3}, DType::int64), {});
               });
  expect_error(ErrorKind::value, {"linear: bias has shape [4], expected [5]"}, [] {
    linear(zeros({2, 3}), zeros({5, 3}), zeros({4}));
  });
  expect_error(ErrorKind::value,
               {"layer_norm: normalized_shape [4] is not the end of x's shape [2, 3]"}, [] {
                 layer_norm(zeros({2, 3}), {4}, Tensor(), Tensor());
               });
  expect_error(ErrorKind::value, {"layer_norm: weight is float32 [2], expected float32 [3]"}, [] {
    layer_norm(zeros({2, 3}), {3}, zeros({2}), Tensor());
  });
  expect_error(ErrorKind::value, {"dropout: p is 1.5"}, [] { dropout(zeros({2}), 1.5); });
  expect_error(ErrorKind::value, {"dropout: p is nan"}, [] { dropout(zeros({2}), NAN); });
  expect_error(ErrorKind::value, {"scaled_dot_product_attention", "do not fit together"}, [] {
    scaled_dot_product_attention(zeros({2, 4}), zeros({3, 5}), zeros({3, 4}));
  });
  expect_error(ErrorKind::value,
               {"scaled_dot_product_attention: shapes [2, 3] and [3, 3] do not broadcast"}, [] {
                 scaled_dot_product_attention(zeros({2, 4}), zeros({3, 4}), zeros({3, 4}),
                                              zeros({3, 3}, DType::bool_));
               });
  expect_error(ErrorKind::value, {"gelu: approximate is \"fast\""},
               [] { gelu(zeros({2}), "fast"); });
  expect_error(ErrorKind::value, {"einsum: equation \"ij,jk\"", "2 terms for 1 operands"}, [] {
    einsum("ij,jk", {zeros({2, 2})});
  });
  expect_error(ErrorKind::value, {"einsum: letter 'j' stands for sizes 3 and 2"}, [] {
    einsum("ij,jk->ik", {zeros({2, 3}), zeros({2, 3})});
  });
  expect_error(ErrorKind::value, {"output letter 'z'"}, [] { einsum("ij->z", {zeros({2, 3})}); });
}

}  // namespace
}  // namespace lg::testing

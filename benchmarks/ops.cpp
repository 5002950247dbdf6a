// ops.cpp: single operations as training uses them, through the public interface. The cases stand
// in cases.py; torch_ops.py answers the same ones. harness.h says how it is called.
//   build/benchmarks/ops "gemm form=NT m=768 n=384 k=128" "gelu rows=64 columns=1024 mode=train"
#include <functional>
#include <memory>
#include <vector>

#include "benchmarks/harness.h"
#include "lightgrad/lightgrad.h"

using bench::Case;
using bench::Run;
using lg::Tensor;

namespace {

// dtype=float64, bfloat16: of products, attention and convolutions; float32 where it is not said.
lg::DType dtype_of(const Case& c) {
  const std::string name = c.text("dtype", "float32");
  for (const lg::DType t : {lg::DType::float32, lg::DType::float64, lg::DType::bfloat16})
    if (name == lg::name_of(t)) return t;
  lg::fail(lg::ErrorKind::value, c.kind, "dtype=", name, ", expected float32, float64, bfloat16");
}

// mode=forward: the result alone, without a graph. mode=train: forward, then backward from a given
// gradient to all of `inputs`.
Run forward_or_train(const Case& c, const std::vector<Tensor>& inputs,
                     const std::function<Tensor()>& f) {
  if (c.text("mode", "forward") == "forward") {
    return [f] {
      lg::NoGrad off;
      f();
      return 0.0;
    };
  }
  for (const Tensor& x : inputs) x.set_requires_grad();
  const Tensor y = f();
  const Tensor g = y.rank() == 0 ? Tensor() : lg::randn(y.shape(), y.dtype());
  return [f, g, inputs] {
    f().backward(g);
    for (const Tensor& x : inputs) x.zero_grad();
    return 0.0;
  };
}

Run gemm(const Case& c) {
  const std::string form = c.text("form");
  const lg::DType dtype = dtype_of(c);
  const auto operand = [&](bool transposed, std::int64_t rows, std::int64_t columns) {
    return transposed ? lg::transpose(lg::randn({columns, rows}, dtype), 0, 1)
                      : lg::randn({rows, columns}, dtype);
  };
  const Tensor a = operand(form[0] == 'T', c["m"], c["k"]);
  const Tensor b = operand(form[1] == 'T', c["k"], c["n"]);
  return forward_or_train(c, {a, b}, [=] { return lg::matmul(a, b); });
}

Run attention(const Case& c) {
  const lg::Shape shape{c["batch"], c["heads"], c["context"], c["width"]};
  const lg::DType dtype = dtype_of(c);
  const Tensor q = lg::randn(shape, dtype), k = lg::randn(shape, dtype),
               v = lg::randn(shape, dtype);
  const bool causal = c["causal"] != 0;
  return forward_or_train(c, {q, k, v},
                          [=] { return lg::scaled_dot_product_attention(q, k, v, {}, 0, causal); });
}

Run cross_entropy(const Case& c) {
  const Tensor logits = lg::randn({c["rows"], c["classes"]});
  const Tensor target = lg::randint(0, c["classes"], {c["rows"]});
  return forward_or_train(c, {logits}, [=] { return lg::cross_entropy(logits, target); });
}

// One direction of a convolution whose padding keeps the size of images, but for the stride.
Run conv(const Case& c) {
  const std::int64_t in = c["in"], size = c["size"], kernel = c["kernel"], pad = kernel / 2;
  const lg::Shape stride = lg::Shape::filled(2, c["stride"]), padding = lg::Shape::filled(4, pad),
                  dilation{1, 1};
  const std::int64_t groups = c["groups"];
  const lg::DType dtype = dtype_of(c);
  const Tensor x = lg::randn({c["batch"], in, size, size}, dtype),
               w = lg::randn({c["out"], in / groups, kernel, kernel}, dtype);
  const Tensor g =
      lg::randn(lg::conv2d(x, w, {}, stride, padding, dilation, groups).shape(), dtype);
  const std::string mode = c.text("mode");
  return [=] {
    lg::NoGrad off;
    if (mode == "forward")
      lg::conv2d(x, w, {}, stride, padding, dilation, groups);
    else if (mode == "data")
      lg::convolution_input_grad(g, w, x.shape(), stride, padding, dilation, groups);
    else
      lg::convolution_weight_grad(g, x, w.shape(), stride, padding, dilation, groups);
    return 0.0;
  };
}

Run layer_norm(const Case& c) {
  const std::int64_t width = c["columns"];
  const Tensor x = lg::randn({c["rows"], width}), weight = lg::randn({width}),
               bias = lg::randn({width});
  return forward_or_train(c, {x, weight, bias},
                          [=] { return lg::layer_norm(x, {width}, weight, bias); });
}

Run embedding(const Case& c) {
  const Tensor weight = lg::randn({c["classes"], c["width"]});
  const Tensor ids = lg::randint(0, c["classes"], {c["rows"]});
  return forward_or_train(c, {weight}, [=] { return lg::embedding(ids, weight); });
}

Run pointwise(const Case& c) {
  const Tensor x = lg::randn({c["rows"], c["columns"]});
  const std::string f = c.kind;
  return forward_or_train(c, {x}, [=] {
    return f == "gelu"      ? lg::gelu(x)
           : f == "relu"    ? lg::relu(x)
           : f == "tanh"    ? lg::tanh(x)
           : f == "exp"     ? lg::exp(x)
           : f == "dropout" ? lg::dropout(x, 0.1)
                            : lg::softmax(x, -1);
  });
}

Run adamw(const Case& c) {
  std::vector<Tensor> parameters;
  for (std::int64_t i = 0; i < c["tensors"]; ++i) {
    parameters.push_back(lg::randn({c["n"]}));
    parameters.back().set_requires_grad();
    parameters.back().set_grad(lg::randn({c["n"]}));
  }
  auto optimizer = std::make_shared<lg::optim::AdamW>(
      parameters, lg::optim::AdamWOptions{.lr = 1e-4, .weight_decay = 0.1});
  return [optimizer] {
    optimizer->step();
    return 0.0;
  };
}

Run reduction(const Case& c) {
  const Tensor x = lg::randn({c["rows"], c["columns"]});
  const std::string f = c.kind, dim = c.text("dim");
  const lg::Axes dims = dim == "all" ? lg::Axes() : lg::Axes(std::stoll(dim));
  return forward_or_train(c, {x}, [=] {
    return f == "sum" ? lg::sum(x, dims) : f == "mean" ? lg::mean(x, dims) : lg::amax(x, dims);
  });
}

// x^T as a contiguous tensor; x + x^T; [batch, context, heads, width] as attention wants it.
Run transposes(const Case& c) {
  if (c.kind == "permute") {
    const Tensor x = lg::randn({c["batch"], c["context"], c["heads"], c["width"]});
    return forward_or_train(c, {x}, [=] { return lg::contiguous(lg::transpose(x, 1, 2)); });
  }
  const Tensor x = lg::randn({c["rows"], c["columns"]});
  const bool add = c.kind == "add_transposed";
  return forward_or_train(c, {x}, [=] {
    const Tensor t = lg::transpose(x, 0, 1);
    return add ? x + t : lg::contiguous(t);
  });
}

// x + y with y of x's shape, a row, a column or a number.
Run add(const Case& c) {
  const std::int64_t rows = c["rows"], columns = c["columns"];
  const Tensor x = lg::randn({rows, columns});
  const std::string with = c.text("with");
  if (with == "number") return forward_or_train(c, {x}, [=] { return x + 1.5; });
  const Tensor y = lg::randn({with == "row" ? 1 : rows, with == "column" ? 1 : columns});
  return forward_or_train(c, {x, y}, [=] { return x + y; });
}

const std::map<std::string, Run (*)(const Case&)> kinds = {
    {"gemm", gemm},
    {"attention", attention},
    {"cross_entropy", cross_entropy},
    {"conv", conv},
    {"layer_norm", layer_norm},
    {"embedding", embedding},
    {"gelu", pointwise},
    {"relu", pointwise},
    {"tanh", pointwise},
    {"exp", pointwise},
    {"dropout", pointwise},
    {"softmax", pointwise},
    {"adamw", adamw},
    {"sum", reduction},
    {"mean", reduction},
    {"amax", reduction},
    {"transpose", transposes},
    {"add_transposed", transposes},
    {"permute", transposes},
    {"add", add},
};

}  // namespace

int main(int argc, char** argv) {
  lg::manual_seed(0);
  return bench::serve(argc, argv, [](const Case& c) {
    const auto found = kinds.find(c.kind);
    if (found == kinds.end())
      lg::fail(lg::ErrorKind::value, "ops", "no operation is called ", c.kind);
    return found->second(c);
  });
}

// attention.cpp: scaled dot-product attention on the fused kernels.
#include <cmath>

#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/float_kernels.h"
#include "lightgrad/ops/neural.h"
#include "lightgrad/ops/run.h"

namespace lg::ops {
namespace {

// Every operand seen as [batch, heads, length, dim] with a contiguous last dimension. The kernels
// read any other stride, so the parts of one projection are used where they lie.
Tensor as_heads(const Tensor& x, const Shape& lead) {
  Shape full = lead;
  full.push_back(x.size(-2));
  full.push_back(x.size(-1));
  Tensor t = x.shape() == full ? x : Expand{{}, full}.forward(x);
  Shape four{1, 1, x.size(-2), x.size(-1)};
  if (lead.rank() == 2) {
    four[0] = lead[0];
    four[1] = lead[1];
  } else {
    four[0] = lead.numel();
  }
  if (t.rank() != 4) t = Reshape{{}, four}.forward(t);
  const bool read_in_place = t.strides()[3] == 1 || t.shape()[3] == 1;
  return read_in_place ? t : t.copy();
}

// Memory [batch, length, heads, dim] seen as [batch, heads, length, dim]: what follows (joining the
// heads) is a view.
Tensor heads_last(const Shape& four, DType dtype) {
  Tensor t = Tensor::empty({four[0], four[2], four[1], four[3]}, dtype);
  return Transpose{{}, 1, 2}.forward(t);
}

struct Call {
  Tensor q, k, v, mask;
  Shape lead;

  Call(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& attn_mask) {
    for (const Tensor* t : {&query, &key, &value}) {
      if (t->rank() < 2) {
        fail(ErrorKind::value, name,
             "expected query, key and value of at least two dimensions, got ", query.shape(), ", ",
             key.shape(), " and ", value.shape());
      }
      if (t->dtype() != query.dtype()) {
        fail(ErrorKind::type, name, "query, key and value are ", name_of(query.dtype()), ", ",
             name_of(key.dtype()), " and ", name_of(value.dtype()), ", expected one dtype");
      }
    }
    if (query.size(-1) != key.size(-1) || key.size(-2) != value.size(-2)) {
      fail(ErrorKind::value, name, "query ", query.shape(), " [..., L, E], key ", key.shape(),
           " [..., S, E] and value ", value.shape(), " [..., S, Ev] do not fit together");
    }
    lead = broadcast(broadcast(leading(query.shape(), 2), leading(key.shape(), 2), name),
                     leading(value.shape(), 2), name);
    q = as_heads(query, lead);
    k = as_heads(key, lead);
    v = as_heads(value, lead);
    if (!attn_mask.defined()) return;
    Shape full = lead;
    full.push_back(query.size(-2));
    full.push_back(key.size(-2));
    if (!(broadcast(full, attn_mask.shape(), name) == full)) {
      fail(ErrorKind::value, name, "attn_mask has shape ", attn_mask.shape(),
           ", expected one that broadcasts to ", full);
    }
    mask = attn_mask;
    if (mask.dtype() == DType::bool_) {
      const Tensor allowed = 0.0, forbidden = -INFINITY;
      const Tensor* const choice[] = {&attn_mask, &allowed, &forbidden};
      mask = Cast{{}, query.dtype()}.forward(
          detail::pointwise_forward(detail::traits<Where>(), nullptr, choice));
    } else if (mask.dtype() != query.dtype()) {
      fail(ErrorKind::type, name, "attn_mask is ", name_of(mask.dtype()),
           ", expected bool or the query's ", name_of(query.dtype()));
    }
    Shape four{1, 1, query.size(-2), key.size(-2)};
    four[0] = lead.rank() == 2 ? lead[0] : lead.numel();
    if (lead.rank() == 2) four[1] = lead[1];
    if (lead.rank() <= 2) {
      Shape padded = mask.shape();  // [..., L, S] with 1 where it has no dimension
      while (padded.rank() < full.rank()) padded.insert(0, 1);
      if (lead.rank() == 0) padded.insert(0, 1);
      if (lead.rank() <= 1) padded.insert(1, 1);
      mask = Expand{{}, four}.forward(Reshape{{}, padded}.forward(mask));
    } else {
      mask = Reshape{{}, four}.forward(Expand{{}, full}.forward(mask));
    }
  }

  template <class T> kernels::Attention<T> arguments(const Attention& op, const Tensor& out) const {
    kernels::Attention<T> a{};
    a.batch = q.shape()[0];
    a.heads = q.shape()[1];
    a.query_len = q.shape()[2];
    a.key_len = k.shape()[2];
    a.head_dim = q.shape()[3];
    a.value_dim = v.shape()[3];
    a.q = q.data<T>();
    a.k = k.data<T>();
    a.v = v.data<T>();
    strides(q, a.q_stride);
    strides(k, a.k_stride);
    strides(v, a.v_stride);
    strides(out, a.out_stride);
    if (mask.defined()) {
      a.mask = mask.data<T>();
      for (int i = 0; i < 4; ++i) a.mask_stride[i] = mask.strides()[i];
    }
    a.causal = op.is_causal;
    a.scale = static_cast<kernels::AttentionNumber<T>>(
        op.scale.value_or(1 / std::sqrt(static_cast<double>(a.head_dim))));
    a.dropout_p = static_cast<float>(op.dropout_p);
    a.dropout = op.stream;
    return a;
  }
  static void strides(const Tensor& t, std::int64_t* to) {
    for (int i = 0; i < 3; ++i) to[i] = t.strides()[i];
  }
  Shape output_shape(std::int64_t length, std::int64_t dim) const {
    Shape s = lead;
    s.push_back(length);
    s.push_back(dim);
    return s;
  }

  static constexpr std::string_view name = "scaled_dot_product_attention";
};

}  // namespace

// Pairs of a query and a key that it may look at, in all batches and heads. The mask's contents are
// not known here.
double Attention::pairs(Metas in, const Meta& out) const {
  const auto length = static_cast<double>(out.shape[out.shape.rank() - 2]);
  const auto keys = static_cast<double>(in[1].shape[in[1].shape.rank() - 2]);
  const double rows =
      out.shape.back() == 0 ? 0 : out.numel() / static_cast<double>(out.shape.back());
  if (!is_causal) return rows * keys;
  // Query i sees keys 0 .. i: a triangle, and full rows where there are more queries than keys.
  const double side = std::min(length, keys);
  return length == 0 ? 0 : rows / length * (side * (side + 1) / 2 + (length - side) * keys);
}

Cost Attention::cost(Metas in, const Meta& out) const {
  const auto e = static_cast<double>(in[0].shape.back()),
             ev = static_cast<double>(out.shape.back());
  return {pairs(in, out) * 2 * (e + ev), moved(in, out)};
}

// The scores again, and the gradients of value, weights, query and key.
Cost Attention::backward_cost(Metas in, const Meta& out, double moved) const {
  const auto e = static_cast<double>(in[0].shape.back()),
             ev = static_cast<double>(out.shape.back());
  return {pairs(in, out) * 2 * (3 * e + 2 * ev), moved};
}

Tensor Attention::forward(const Tensor& query, const Tensor& key, const Tensor& value,
                          const Tensor& mask) {
  if (!(dropout_p >= 0 && dropout_p <= 1)) {
    fail(ErrorKind::value, Call::name, "dropout_p is ", dropout_p,
         ", expected a probability from 0 to 1");
  }
  const Call c(query, key, value, mask);
  if (dropout_p > 0) stream = default_generator().next();
  const Shape four{c.q.shape()[0], c.q.shape()[1], c.q.shape()[2], c.v.shape()[3]};
  Tensor y = heads_last(four, query.dtype());
  logsumexp = Tensor::empty({four[0], four[1], four[2]}, compute_type(query.dtype()));
  if (y.numel() > 0) {
    with_products(query, Call::name, [&]<class T>(const auto& k, T) {
      k.attention_forward(c.template arguments<T>(*this, y), y.data<T>(),
                          logsumexp.data<kernels::AttentionNumber<T>>());
    });
  }
  return y.shape() == c.output_shape(four[2], four[3])
             ? y
             : Reshape{{}, c.output_shape(four[2], four[3])}.forward(y);
}

void Attention::backward(const Tensor& g, const Tensor* in, const Tensor& y, Wanted wanted,
                         Gradients out) const {
  if (wanted & 8) {  // a mask that learns: by the definition
    detail::composite_gradients(
        {in, 4}, wanted, g,
        [&](std::span<const Tensor> a) { return composite(a[0], a[1], a[2], a[3]); }, out);
    return;
  }
  const Call c(in[0], in[1], in[2], in[3]);
  const Tensor gy = as_heads(g, c.lead), out4 = as_heads(y, c.lead);
  Tensor gradient[3];
  const Tensor* from[3] = {&c.q, &c.k, &c.v};
  for (int i = 0; i < 3; ++i) {
    if (wanted >> i & 1) gradient[i] = heads_last(from[i]->shape(), y.dtype());
  }
  if (c.q.numel() > 0 && c.k.numel() > 0 && y.numel() > 0) {
    with_products(y, Call::name, [&]<class T>(const auto& k, T) {
      kernels::AttentionGradient<T> a{};
      a.g = gy.data<T>();
      a.out = out4.data<T>();
      a.lse = logsumexp.data<kernels::AttentionNumber<T>>();
      T** targets[3] = {&a.dq, &a.dk, &a.dv};
      std::int64_t* strides[3] = {a.dq_stride, a.dk_stride, a.dv_stride};
      Call::strides(gy, a.g_stride);
      for (int i = 0; i < 3; ++i) {
        if (!gradient[i].defined()) continue;
        *targets[i] = gradient[i].template data<T>();
        Call::strides(gradient[i], strides[i]);
      }
      k.attention_backward(c.template arguments<T>(*this, out4), a);
    });
  } else {
    for (Tensor& t : gradient)
      if (t.defined()) t = zeros(t.shape(), t.dtype());
  }
  for (int i = 0; i < 3; ++i) {
    if (!gradient[i].defined()) continue;
    Shape full = c.output_shape(from[i]->shape()[2], from[i]->shape()[3]);
    Tensor t = gradient[i].shape() == full ? gradient[i] : Reshape{{}, full}.forward(gradient[i]);
    out[static_cast<std::size_t>(i)] =
        detail::reduce_to(std::move(t), {in[i].shape(), in[i].dtype()});
  }
}

Tensor Attention::composite(const Tensor& query, const Tensor& key, const Tensor& value,
                            const Tensor& mask) const {
  if (is_half(query.dtype())) {  // rounded once, as the kernels do
    const auto wide = [](const Tensor& t) {
      return t.defined() && is_half(t.dtype()) ? to(t, DType::float32) : t;
    };
    return to(composite(wide(query), wide(key), wide(value), wide(mask)), query.dtype());
  }
  Tensor scores = matmul(query * scale.value_or(1 / std::sqrt(static_cast<double>(query.size(-1)))),
                         transpose(key, -2, -1));
  if (is_causal) {
    Tensor seen = tril(ones({query.size(-2), key.size(-2)}, DType::bool_));
    scores = where(seen, scores, -INFINITY);
  }
  if (mask.defined())
    scores = mask.dtype() == DType::bool_ ? where(mask, scores, -INFINITY) : scores + mask;
  // A row that sees nothing gives 0.
  Tensor blind = amax(scores, -1, true).detach() == -INFINITY;
  Tensor p = where(blind, 0, softmax(where(blind, 0, scores), -1));
  if (dropout_p > 0) {
    p = dropout_stream(p, dropout_p, static_cast<std::int64_t>(stream.seed),
                       static_cast<std::int64_t>(stream.offset));
  }
  return matmul(p, value);
}

}  // namespace lg::ops

// einsum.cpp: NumPy's einsum in terms of permute, multiply-and-sum and matmul, operand by operand
// from the left.
#include <algorithm>
#include <cctype>
#include <map>

#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/indexing.h"
#include "lightgrad/ops/ops.h"

namespace lg {
namespace {

[[noreturn]] void malformed(std::string_view equation, const std::string& why) {
  fail(ErrorKind::value, "einsum", "equation \"", equation, "\": ", why);
}

// Letters of a term; '.' stands for one dimension of the ellipsis, numbered from its right end by
// '0' + k.
std::string expand_term(std::string_view equation, std::string_view term, int rank,
                        int& ellipsis_rank) {
  std::string out;
  const auto dots = term.find("...");
  int letters = 0;
  for (std::size_t i = 0; i < term.size(); ++i) {
    if (i == dots) {
      i += 2;
    } else if (std::isalpha(static_cast<unsigned char>(term[i]))) {
      ++letters;
    } else {
      malformed(equation, text("unexpected character '", term[i], "'"));
    }
  }
  const int hidden = dots == term.npos ? 0 : rank < 0 ? ellipsis_rank : rank - letters;
  if (rank >= 0 && (hidden < 0 || letters + hidden != rank)) {
    malformed(equation,
              text("term \"", term, "\" names ", letters, " dimensions, its operand has ", rank));
  }
  if (rank >= 0) ellipsis_rank = std::max(ellipsis_rank, hidden);
  for (std::size_t i = 0; i < term.size(); ++i) {
    if (i == dots) {
      for (int k = hidden; k-- > 0;) out += static_cast<char>('0' + k);
      i += 2;
    } else {
      out += term[i];
    }
  }
  return out;
}

struct Labelled {
  Tensor t;
  std::string labels;
};

// A letter twice in one term: the diagonal.
Labelled take_diagonals(Labelled x) {
  for (std::size_t i = 0; i < x.labels.size(); ++i) {
    const auto j = x.labels.find(x.labels[i], i + 1);
    if (j == std::string::npos) continue;
    const std::int64_t n = x.t.size(static_cast<int>(i)), m = x.t.size(static_cast<int>(j));
    if (n != m)
      fail(ErrorKind::value, "einsum", "letter '", x.labels[i], "' stands for sizes ", n, " and ",
           m);
    Shape order{static_cast<std::int64_t>(i), static_cast<std::int64_t>(j)};
    std::string rest;
    for (std::size_t d = 0; d < x.labels.size(); ++d) {
      if (d != i && d != j) order.push_back(static_cast<std::int64_t>(d)), rest += x.labels[d];
    }
    Tensor at = arange(n);
    x = {permute(x.t, order).index({at, at}), x.labels[i] + rest};
    i = std::string::npos;  // start again with the new order
  }
  return x;
}

// x with its dimensions in the order of `labels`, size 1 where it has none.
Tensor align(const Labelled& x, const std::string& labels) {
  Shape order, shape;
  int next = 0;
  for (char c : labels) {
    const auto at = x.labels.find(c);
    if (at != std::string::npos) order.push_back(static_cast<std::int64_t>(at)), ++next;
  }
  Tensor t = permute(x.t, order);
  int d = 0;
  for (char c : labels) shape.push_back(x.labels.find(c) == std::string::npos ? 1 : t.shape()[d++]);
  return reshape(t, shape);
}

Labelled sum_out(Labelled x, const std::string& keep) {
  Axes dims{Shape()};
  std::string labels;
  for (std::size_t i = 0; i < x.labels.size(); ++i) {
    if (keep.find(x.labels[i]) == std::string::npos)
      dims.list.push_back(static_cast<std::int64_t>(i));
    else
      labels += x.labels[i];
  }
  return dims.list.empty() ? x : Labelled{sum(x.t, dims), labels};
}

// One product: labels in both and kept are a batch, in both and not kept are summed by matmul.
Labelled contract(Labelled a, Labelled b, const std::string& keep) {
  std::string batch, left, right, summed;
  for (char c : a.labels) {
    const bool shared = b.labels.find(c) != std::string::npos,
               kept = keep.find(c) != std::string::npos;
    (shared ? (kept ? batch : summed) : left) += c;
  }
  for (char c : b.labels)
    if (a.labels.find(c) == std::string::npos) right += c;
  a = sum_out(std::move(a), keep + b.labels);
  b = sum_out(std::move(b), keep + a.labels);
  std::erase_if(left, [&](char c) { return a.labels.find(c) == std::string::npos; });
  std::erase_if(right, [&](char c) { return b.labels.find(c) == std::string::npos; });

  auto size = [](const Labelled& x, char c) {
    return x.t.size(static_cast<std::int64_t>(x.labels.find(c)));
  };
  Shape out, a3, b3;
  std::int64_t m = 1, n = 1, k = 1;
  for (char c : batch) {
    const std::int64_t p = size(a, c), q = size(b, c);
    a3.push_back(p);
    b3.push_back(q);
    out.push_back(p == 1 ? q : p);
  }
  for (char c : summed) {
    const std::int64_t p = size(a, c), q = size(b, c);
    if (p != q && (p == 1 || q == 1)) {  // a size of 1 that stretches: sum it by itself
      const std::int64_t wide = std::max(p, q);
      Labelled& narrow = p == 1 ? a : b;
      Shape shape = narrow.t.shape();
      shape[static_cast<int>(narrow.labels.find(c))] = wide;
      narrow.t = expand(narrow.t, shape);
    } else if (p != q) {
      fail(ErrorKind::value, "einsum", "letter '", c, "' stands for sizes ", p, " and ", q);
    }
    k *= size(a, c);
  }
  for (char c : left) m *= size(a, c), out.push_back(size(a, c));
  for (char c : right) n *= size(b, c), out.push_back(size(b, c));
  a3.push_back(m);
  a3.push_back(k);
  b3.push_back(k);
  b3.push_back(n);
  Tensor x = reshape(align(a, batch + left + summed), a3),
         y = reshape(align(b, batch + summed + right), b3);
  return {reshape(bmm(x, y), out), batch + left + right};
}

}  // namespace

Tensor einsum(std::string_view equation, const std::vector<Tensor>& operands) {
  std::string eq;
  for (char c : equation)
    if (c != ' ') eq += c;
  if (operands.empty()) malformed(equation, "got no operands");
  const auto arrow = eq.find("->");
  std::string left = eq.substr(0, arrow);
  std::vector<std::string> terms(1);
  for (char c : left) {
    if (c == ',')
      terms.emplace_back();
    else
      terms.back() += c;
  }
  if (terms.size() != operands.size()) {
    malformed(equation, text("has ", terms.size(), " terms for ", operands.size(), " operands"));
  }
  int hidden = 0;
  std::vector<Labelled> x;
  std::map<char, std::int64_t> sizes;
  for (std::size_t i = 0; i < terms.size(); ++i) {
    if (!operands[i].defined()) fail(ErrorKind::type, "einsum", "operand ", i, " is undefined");
    x.push_back({operands[i], expand_term(equation, terms[i], operands[i].rank(), hidden)});
    for (std::size_t d = 0; d < x[i].labels.size(); ++d) {
      const std::int64_t n = operands[i].shape()[static_cast<int>(d)];
      auto [it, fresh] = sizes.emplace(x[i].labels[d], n);
      if (!fresh && it->second != n && it->second != 1 && n != 1) {
        fail(ErrorKind::value, "einsum", "letter '", x[i].labels[d], "' stands for sizes ",
             it->second, " and ", n, " (equation \"", equation, "\")");
      }
      it->second = std::max(it->second, n);
    }
  }
  std::string out;
  if (arrow != eq.npos) {
    out = expand_term(equation, std::string_view(eq).substr(arrow + 2), -1, hidden);
  } else {  // the ellipsis, then every letter that stands once, in alphabetical order
    std::map<char, int> count;
    for (auto& t : x)
      for (char c : t.labels) ++count[c];
    for (int k = hidden; k-- > 0;) out += static_cast<char>('0' + k);
    for (auto [c, n] : count)
      if (std::isalpha(static_cast<unsigned char>(c)) && n == 1) out += c;
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!sizes.contains(out[i]))
      malformed(equation, text("output letter '", out[i], "' is in no operand"));
    if (out.find(out[i], i + 1) != out.npos)
      malformed(equation, text("output letter '", out[i], "' stands twice"));
  }
  for (auto& t : x) t = take_diagonals(std::move(t));
  Labelled result = x[0];
  for (std::size_t i = 1; i < x.size(); ++i) {
    std::string keep = out;
    for (std::size_t j = i + 1; j < x.size(); ++j) keep += x[j].labels;
    result = contract(std::move(result), x[i], keep);
  }
  result = sum_out(std::move(result), out);
  Tensor y = align(result, out);
  Shape full;
  for (char c : out) full.push_back(sizes[c]);
  return y.shape() == full ? y : expand(y, full);
}

}  // namespace lg

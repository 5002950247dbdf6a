#include "lightgrad/graph/graph.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <set>
#include <unordered_map>
#include <vector>

#include "lightgrad/base/file.h"
#include "lightgrad/ops/ops.h"

extern char** environ;

namespace lg::graph {
namespace {

// Fill colours by family: light, so that black text reads on them in print.
struct Family {
  const char* name;
  const char* colour;
};
constexpr Family pointwise_family{"pointwise", "#dcedc8"}, view_family{"view", "#eceff1"},
    reduction_family{"reduction", "#fff9c4"}, heavy_family{"kernel", "#ffe0b2"},
    function_family{"function", "#e1bee7"}, leaf_family{"leaf", "#bbdefb"};

const std::map<std::string_view, Family>& families() {
  static const auto map = [] {
    std::map<std::string_view, Family> m;
    AllOps::each([&]<class Op>() {
      Family f = heavy_family;
      if constexpr (Op::pointwise)
        f = pointwise_family;
      else if constexpr (requires { Op::view; })
        f = view_family;
      else if constexpr (requires(Op op) { op.keepdim; })
        f = reduction_family;
      m.emplace(Op::info.name, f);
    });
    return m;
  }();
  return map;
}

Family family_of(const Node& n) {
  if (n.n_edges == 0) return leaf_family;
  auto it = families().find(n.name());
  return it == families().end() ? function_family : it->second;
}

std::string escaped(std::string_view s) {
  std::string out;
  for (char c : s) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string sizes(const Shape& s, DType t) {
  std::string out = s.rank() == 0 ? "scalar" : "";
  for (int i = 0; i < s.rank(); ++i) out += (i ? "\u00d7" : "") + std::to_string(s[i]);
  return t == DType::float32 ? out : text(out, " ", name_of(t));
}

// A box and what lies in it: nodes, and boxes of inner modules.
struct Box {
  std::map<std::string, Box> inner;
  std::vector<std::string> order, lines;

  Box& at(std::string_view path) {
    if (path.empty()) return *this;
    const auto dot = path.find('.');
    const std::string head(path.substr(0, dot));
    if (!inner.contains(head)) order.push_back(head);
    return inner[head].at(dot == path.npos ? std::string_view() : path.substr(dot + 1));
  }
  void print(std::string& out, const std::string& indent, int& serial) const {
    for (const auto& l : lines) out += indent + l + "\n";
    for (const auto& name : order) {
      out +=
          text(indent, "subgraph cluster_", serial++, " {\n", indent, "  label=\"", escaped(name),
               "\"; style=\"rounded\"; color=\"#90a4ae\"; fontcolor=\"#455a64\";\n");
      inner.at(name).print(out, indent + "  ", serial);
      out += indent + "}\n";
    }
  }
};

std::string common_path(const std::string& a, const std::string& b) {
  std::size_t end = 0;
  for (std::size_t i = 0; i <= a.size() && i <= b.size(); ++i) {
    const bool a_ends = i == a.size() || a[i] == '.', b_ends = i == b.size() || b[i] == '.';
    if (a_ends && b_ends) end = i;
    if (i == a.size() || i == b.size() || a[i] != b[i]) break;
  }
  return a.substr(0, end);
}

}  // namespace

std::string to_dot(const Tensor& output, const DotOptions& options) {
  if (!output.defined() || !output.requires_grad() || !output.node()) {
    fail(ErrorKind::value, "to_dot",
         "the tensor has no graph: nothing that requires a gradient was part of its computation");
  }
  std::vector<Node*> nodes{output.node().get()};
  std::unordered_map<Node*, std::size_t> id{{nodes[0], 0}};
  std::unordered_map<Node*, std::string> path;  // of a leaf: the box that all its users share
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    Node* n = nodes[i];
    for (int e = 0; e < n->n_edges; ++e) {
      Node* m = n->edges[e].get();
      if (!m || (m->n_edges == 0 && !options.leaves)) continue;
      if (id.emplace(m, nodes.size()).second) nodes.push_back(m);
      if (nodes.size() > options.max_nodes) {
        fail(ErrorKind::value, "to_dot", "the graph has more than ", options.max_nodes,
             " operations; draw a smaller model, or raise max_nodes");
      }
      if (m->n_edges == 0) {
        const std::string user = n->module_path ? *n->module_path : "";
        auto [it, fresh] = path.emplace(m, user);
        if (!fresh) it->second = common_path(it->second, user);
      }
    }
  }
  Box root;
  std::string arrows;
  std::set<std::string> used;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    Node* n = nodes[i];
    const Family f = family_of(*n);
    used.insert(text(f.name, "=", f.colour));
    std::string label(n->name());
    if (n->n_edges == 0) {
      auto it = options.names.find(n->tensor);
      label = (it == options.names.end() ? "" : it->second + "\\n") +
              sizes(n->output_shape(), n->output_dtype());
    }
    Box& box = root.at(n->n_edges == 0 ? path[n] : n->module_path ? *n->module_path : "");
    box.lines.push_back(text("n", i, " [label=\"", n->n_edges == 0 ? label : escaped(label),
                             "\", fillcolor=\"", f.colour,
                             n->n_edges == 0 ? "\", shape=box];" : "\"];"));
    for (int e = 0; e < n->n_edges; ++e) {
      Node* m = n->edges[e].get();
      if (!m || !id.contains(m)) continue;
      arrows += text("  n", id[m], " -> n", i);
      if (m->n_edges > 0)
        arrows += text(" [label=\"", sizes(m->output_shape(), m->output_dtype()), "\"]");
      arrows += ";\n";
    }
  }
  std::string out =
      "digraph lightgrad {\n  rankdir=BT; newrank=true; nodesep=0.25; ranksep=0.35;\n";
  if (!options.title.empty())
    out += text("  label=\"", escaped(options.title), "\"; labelloc=t; fontsize=18;\n");
  out +=
      "  graph [fontname=\"Helvetica\", fontsize=12];\n"
      "  node [fontname=\"Helvetica\", fontsize=11, shape=ellipse, style=\"filled\", "
      "color=\"#607d8b\", margin=\"0.08,0.04\"];\n"
      "  edge [fontname=\"Helvetica\", fontsize=9, color=\"#607d8b\", fontcolor=\"#546e7a\", "
      "arrowsize=0.6];\n";
  int serial = 0;
  root.print(out, "  ", serial);
  out += arrows;
  out += text("  result [label=\"", sizes(output.shape(), output.dtype()),
              "\", shape=plaintext, style=\"\"];\n  n0 -> result;\n}\n");
  return out;
}

void save_svg(const Tensor& output, const std::string& path, const DotOptions& options) {
  const std::string dot = to_dot(output, options);
  // Through a temporary file and a child process without a shell.
  char source[] = "/tmp/lightgrad-graph-XXXXXX";
  const int file = mkstemp(source);
  if (file < 0) fail(ErrorKind::io, "save_svg", "cannot make a temporary file");
  const std::string drawn = std::string(source) + ".svg";
  struct Remove {
    const char* a;
    const std::string& b;
    ~Remove() {
      unlink(a);
      unlink(b.c_str());
    }
  } remove{source, drawn};
  const bool written = write(file, dot.data(), dot.size()) == static_cast<ssize_t>(dot.size());
  close(file);
  if (!written) fail(ErrorKind::io, "save_svg", "cannot write a temporary file");
  std::string to = "-o" + drawn;
  char program[] = "dot", format[] = "-Tsvg";
  char* arguments[] = {program, format, source, to.data(), nullptr};
  pid_t child = 0;
  int status = 1;
  if (posix_spawnp(&child, program, nullptr, nullptr, arguments, environ) != 0 ||
      waitpid(child, &status, 0) != child || status != 0) {
    fail(ErrorKind::runtime, "save_svg",
         "Graphviz's program `dot` did not draw the graph; install the package graphviz, or use "
         "to_dot");
  }
  AtomicFile svg(path, "save_svg");
  svg.write(read_file(drawn, "save_svg"));
  svg.commit();
}

}  // namespace lg::graph

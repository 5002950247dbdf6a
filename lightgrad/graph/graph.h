// graph.h: the recorded graph as a picture: operations coloured by family, tensors with shape and
// dtype on the arrows, and a box for every module.
#pragma once

#include <string>
#include <unordered_map>

#include "lightgrad/autograd/node.h"

namespace lg::graph {

// Keeps the module path of every operation recorded while it lives: the boxes of the picture.
class KeepPaths {
 public:
  KeepPaths() : before_(autograd::keep_module_paths.exchange(true)) {}
  ~KeepPaths() { autograd::keep_module_paths = before_; }
  KeepPaths(const KeepPaths&) = delete;

 private:
  bool before_;
};

struct DotOptions {
  std::string title;
  bool leaves = true;            // draw parameters and inputs
  std::size_t max_nodes = 2000;  // a larger graph is refused: nobody can read it
  std::unordered_map<const TensorImpl*, std::string>
      names;  // of parameters, to write beside their sizes
};

// The graph behind `output` in Graphviz's language. ValueError when the tensor has no graph, or too
// large a one.
std::string to_dot(const Tensor& output, const DotOptions& options = {});

// The same drawn by Graphviz's `dot`, which must be installed. RuntimeError otherwise; written
// atomically.
void save_svg(const Tensor& output, const std::string& path, const DotOptions& options = {});

}  // namespace lg::graph

// graph.cpp: the picture of the graph. Names of parameters come from a module, if one is given.
#include <nanobind/stl/string.h>

#include "common.h"
#include "lightgrad/graph/graph.h"

namespace lg::python {
namespace {

graph::DotOptions options_of(nb::object model, std::string title, bool leaves,
                             std::size_t max_nodes) {
  graph::DotOptions o;
  o.title = std::move(title);
  o.leaves = leaves;
  o.max_nodes = max_nodes;
  if (model.is_none()) return o;
  for (nb::handle pair : model.attr("named_parameters")()) {
    const nb::object tensor = pair[1];
    o.names[tensor_of(tensor.ptr()).impl()] = nb::cast<std::string>(pair[0]);
  }
  return o;
}

}  // namespace

void bind_graph(nb::module_& m) {
  m.def(
      "_to_dot",
      [](const Tensor& output, nb::object model, std::string title, bool leaves,
         std::size_t max_nodes) {
        return graph::to_dot(output,
                             options_of(std::move(model), std::move(title), leaves, max_nodes));
      },
      "output"_a, "model"_a.none(), "title"_a, "leaves"_a, "max_nodes"_a);
  m.def(
      "_save_svg",
      [](const Tensor& output, const std::string& path, nb::object model, std::string title,
         bool leaves, std::size_t max_nodes) {
        graph::save_svg(output, path,
                        options_of(std::move(model), std::move(title), leaves, max_nodes));
      },
      "output"_a, "path"_a, "model"_a.none(), "title"_a, "leaves"_a, "max_nodes"_a);
  m.def(
      "_keep_module_paths", [](bool on) { return autograd::keep_module_paths.exchange(on); },
      "on"_a);
}

}  // namespace lg::python

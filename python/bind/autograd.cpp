// autograd.cpp: backward, hooks, functional gradients, and operations defined in Python.
#include <nanobind/stl/shared_ptr.h>

#include "lightgrad/autograd/poll.h"
#include "rows.h"

namespace lg::python {
namespace {

using autograd::FunctionContext;
using Tensors = std::vector<Tensor>;

// A tensor or a sequence of tensors.
Tensors tensors_of(nb::handle h) {
  if (is_tensor(h.ptr())) return {tensor_of(h.ptr())};
  return nb::cast<Tensors>(h);
}

// A Python callable from tensors to a tensor or several, for gradcheck.
autograd::CheckedFunction checked(nb::object f) {
  return [f = PyRef(std::move(f))](const Tensors& inputs) {
    nb::gil_scoped_acquire lock;
    return tensors_of(nb::borrow<nb::callable>(f.get())(*tuple_of(inputs)));
  };
}

// The gradients that a Python backward returned, one per tensor argument.
Tensors gradients_of(nb::handle result, std::size_t expected, const std::string& name) {
  nb::tuple all =
      nb::isinstance<nb::tuple>(result) ? nb::borrow<nb::tuple>(result) : nb::make_tuple(result);
  if (all.size() != expected) {
    fail(ErrorKind::runtime, name + ".backward", "returned ", all.size(), " gradients for ",
         expected, " arguments of forward");
  }
  Tensors out;
  for (nb::handle g : all) {
    if (!g.is_none() && !is_tensor(g.ptr())) {
      fail(ErrorKind::type, name + ".backward", "returned a ", Py_TYPE(g.ptr())->tp_name,
           ", expected a tensor or None");
    }
    out.push_back(g.is_none() ? Tensor() : tensor_of(g.ptr()));
  }
  return out;
}

// Function.apply: `arguments` as given, `outputs` computed from them without a graph; backward(ctx,
// *gradients) gives a gradient per argument, None for what is no tensor.
nb::object record_function(const std::string& name, nb::tuple arguments, nb::tuple outputs,
                           std::shared_ptr<FunctionContext> context, nb::object py_context,
                           nb::object backward) {
  Tensors inputs, results;
  std::vector<std::size_t> position;  // of each input among the arguments
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (nb::handle a = arguments[i]; is_tensor(a.ptr())) {
      inputs.push_back(tensor_of(a.ptr()));
      position.push_back(i);
    }
  }
  for (nb::handle o : outputs) {
    if (!is_tensor(o.ptr())) {
      fail(ErrorKind::type, name + ".forward", "returned a ", Py_TYPE(o.ptr())->tp_name,
           ", expected tensors");
    }
    results.push_back(tensor_of(o.ptr()));
  }
  autograd::FunctionBackward run =
      [name, position, count = arguments.size(), ctx = PyRef(std::move(py_context)),
       f = PyRef(std::move(backward))](FunctionContext&, const Tensors& g) {
        nb::gil_scoped_acquire lock;
        nb::object result = nb::borrow<nb::callable>(f.get())(ctx.get(), *tuple_of(g));
        const Tensors all = gradients_of(result, count, name);
        Tensors out;
        for (std::size_t i : position) out.push_back(all[i]);
        return out;
      };
  return tuple_of(autograd::record_function(name, inputs, std::move(results), std::move(context),
                                            std::move(run)));
}

struct TensorHook {
  Tensor tensor;
  int id;
};

// function(*args, **kwargs) inside a checkpoint; tensors among args are its inputs.
nb::object run_checkpoint(nb::callable function, nb::tuple args, nb::dict kwargs) {
  if (!autograd::grad_enabled) return function(*args, **kwargs);
  Tensors inputs;
  for (nb::handle a : args)
    if (is_tensor(a.ptr())) inputs.push_back(tensor_of(a.ptr()));
  const auto again = [f = PyRef(function), args = PyRef(args),
                      kwargs = PyRef(kwargs)](const Tensors& in) {
    nb::gil_scoped_acquire lock;
    nb::list now;
    std::size_t i = 0;
    for (nb::handle a : args.get()) {
      if (is_tensor(a.ptr()))
        now.append(nb::cast(in[i++]));
      else
        now.append(a);
    }
    nb::borrow<nb::callable>(f.get())(*nb::tuple(now), **nb::borrow<nb::dict>(kwargs.get()));
  };
  const Ref<autograd::Recompute> r = lg::detail::recompute(again, inputs);
  const autograd::Recompute::Scope scope(*r);
  return function(*args, **kwargs);
}

int register_hook(const Tensor& t, nb::object f) {
  return t.register_hook([f = PyRef(std::move(f))](const Tensor& g) -> Tensor {
    nb::gil_scoped_acquire lock;
    nb::object r = nb::borrow<nb::callable>(f.get())(g);
    if (r.is_none()) return {};
    if (!is_tensor(r.ptr())) {
      fail(ErrorKind::type, "hook", "returned a ", Py_TYPE(r.ptr())->tp_name,
           ", expected a tensor or None");
    }
    return tensor_of(r.ptr());
  });
}

}  // namespace

void bind_autograd(nb::module_& m, nb::class_<PyTensor>& tensor) {
  autograd::poll = [] {  // Ctrl-C
    if (PyGILState_Check() && PyErr_CheckSignals() != 0) throw nb::python_error();
  };
  tensor
      .def(
          "backward",
          [](const Tensor& x, const MaybeTensor& gradient, bool retain_graph, bool create_graph) {
            x.backward(gradient.t, {.retain_graph = retain_graph, .create_graph = create_graph});
          },
          "gradient"_a = nb::none(), "retain_graph"_a = false, "create_graph"_a = false,
          "Adds the gradient of this tensor with respect to every leaf to the leaf's .grad.")
      .def(
          "register_hook",
          [](const Tensor& t, nb::callable f) {
            return TensorHook{t, register_hook(t, std::move(f))};
          },
          "hook"_a,
          "hook(gradient) sees the finished gradient, and may return another. Returns a handle "
          "with remove().");
  nb::class_<TensorHook>(m, "TensorHook").def("remove", [](TensorHook& h) {
    if (h.tensor.defined()) h.tensor.remove_hook(h.id);
    h.tensor = {};
  });

  m.def(
      "is_grad_enabled", [] { return autograd::grad_enabled; },
      "Whether operations record a graph now.");
  m.def(
      "_set_grad_enabled", [](bool on) { return std::exchange(autograd::grad_enabled, on); },
      "mode"_a, "Returns the mode from before.");
  m.def("set_detect_anomaly", &autograd::set_detect_anomaly, "mode"_a,
        "On: the first operation that makes a NaN or infinity, forward or backward, raises an "
        "error with its name.");
  m.def("is_anomaly_enabled", &autograd::detects_anomaly);
  m.def(
      "grad",
      [](nb::handle outputs, nb::handle inputs, nb::handle grad_outputs,
         std::optional<bool> retain_graph, bool create_graph, bool allow_unused) {
        Tensors gradients;
        if (is_tensor(grad_outputs.ptr())) {
          gradients = {tensor_of(grad_outputs.ptr())};
        } else if (!grad_outputs.is_none()) {
          for (nb::handle g : grad_outputs)
            gradients.push_back(g.is_none() ? Tensor() : nb::cast<Tensor>(g));
        }
        return tuple_of(autograd::grad(tensors_of(outputs), tensors_of(inputs), gradients,
                                       {.retain_graph = retain_graph.value_or(create_graph),
                                        .create_graph = create_graph,
                                        .allow_unused = allow_unused}));
      },
      "outputs"_a, "inputs"_a, "grad_outputs"_a = nb::none(), "retain_graph"_a = nb::none(),
      "create_graph"_a = false, "allow_unused"_a = false,
      "The gradients of the outputs' sum with respect to each input, a tuple; no .grad is "
      "touched.");

  nb::class_<FunctionContext>(m, "FunctionContext", nb::dynamic_attr(),
                              "What forward keeps for backward; any attribute may be set on it.")
      .def(nb::init<>())
      .def("save_for_backward",
           [](FunctionContext& c, const nb::args& tensors) {
             Tensors all;
             for (nb::handle t : tensors)
               all.push_back(t.is_none() ? Tensor() : nb::cast<Tensor>(t));
             c.save_for_backward(std::move(all));
           })
      .def_prop_ro("saved_tensors", [](FunctionContext& c) { return tuple_of(c.saved_tensors()); })
      .def_prop_rw(
          "needs_input_grad",
          [](const FunctionContext& c) { return nb::tuple(nb::cast(c.needs_input_grad)); },
          [](FunctionContext& c, std::vector<bool> v) { c.needs_input_grad = std::move(v); });
  m.def("_checkpoint", &run_checkpoint, "function"_a, "args"_a, "kwargs"_a);
  m.def("_record_function", &record_function, "name"_a, "arguments"_a, "outputs"_a, "context"_a,
        "py_context"_a, "backward"_a);

  auto bind_check = [&](const char* name, auto check, const char* doc) {
    m.def(
        name,
        [check](nb::callable f, nb::handle inputs, double eps, double atol, double rtol,
                bool raise_exception) {
          try {
            return check(checked(f), tensors_of(inputs),
                         autograd::GradcheckOptions{eps, atol, rtol});
          } catch (const Error& e) {
            if (raise_exception || e.kind() != ErrorKind::runtime) throw;
            return false;
          }
        },
        "func"_a, "inputs"_a, "eps"_a = 1e-6, "atol"_a = 1e-5, "rtol"_a = 1e-3,
        "raise_exception"_a = true, doc);
  };
  bind_check("gradcheck", &autograd::gradcheck,
             "Gradients of func against central differences, in float64.");
  bind_check("gradgradcheck", &autograd::gradgradcheck,
             "Gradients of gradients of func against central differences.");
}

}  // namespace lg::python

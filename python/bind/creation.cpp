// creation.cpp: new tensors: zeros(2, 3), full((2,), 7), arange(5), randn(3, requires_grad=True),
// ...
#include <nanobind/stl/pair.h>

#include "common.h"

namespace lg::python {
namespace {

using Device = std::optional<std::string>;

Tensor finish(Tensor t, const Device& device, bool requires_grad) {
  t = placed(std::move(t), device);
  if (requires_grad) t.set_requires_grad();
  return t;
}

#define LG_COMMON_ARGUMENTS \
  "dtype"_a = nb::none(), "device"_a = nb::none(), "requires_grad"_a = false

// name(*size, dtype, device, requires_grad)
template <class F> void bind_sized(nb::module_& m, const char* name, F make, const char* doc) {
  m.def(
      name,
      [name, make](const nb::args& size, OptionalDType dtype, const Device& device,
                   bool requires_grad) {
        return finish(make(shape_from_args(size, name), dtype), device, requires_grad);
      },
      "size"_a, LG_COMMON_ARGUMENTS, doc);
}
template <class F> void bind_random(nb::module_& m, const char* name, F make, const char* doc) {
  m.def(
      name,
      [name, make](const nb::args& size, Generator* generator, OptionalDType dtype,
                   const Device& device, bool requires_grad) {
        return finish(make(shape_from_args(size, name), dtype, generator), device, requires_grad);
      },
      "size"_a, "generator"_a = nb::none(), LG_COMMON_ARGUMENTS, doc);
}
template <class F> void bind_like(nb::module_& m, const char* name, F make, const char* doc) {
  m.def(
      name,
      [make](const Tensor& x, OptionalDType dtype, const Device& device, bool requires_grad) {
        return finish(make(x, dtype), device, requires_grad);
      },
      "x"_a, nb::kw_only(), LG_COMMON_ARGUMENTS, doc);
}

}  // namespace

void bind_creation(nb::module_& m) {
  nb::class_<Generator>(m, "Generator",
                        "A stream of random numbers of its own: Philox, counted by draws.")
      .def(nb::init<std::uint64_t>(), "seed"_a = 0)
      .def(
          "manual_seed",
          [](nb::object self, std::uint64_t seed) {
            nb::cast<Generator&>(self).manual_seed(seed);
            return self;
          },
          "seed"_a)
      .def("initial_seed", &Generator::seed)
      .def_prop_ro("seed", &Generator::seed)
      .def(
          "get_state", [](const Generator& g) { return nb::make_tuple(g.seed(), g.offset()); },
          "(seed, number of draws so far)")
      .def(
          "set_state",
          [](Generator& g, std::pair<std::uint64_t, std::uint64_t> s) {
            g.set_state(s.first, s.second);
          },
          "state"_a);
  m.def("default_generator", &default_generator, nb::rv_policy::reference,
        "The generator that lg.rand and friends use unless told otherwise.");
  m.def("manual_seed", &manual_seed, "seed"_a, "Starts the default generator afresh.");

  bind_sized(
      m, "empty", [](const Shape& s, OptionalDType t) { return empty(s, t); },
      "Memory as it comes.");
  bind_sized(
      m, "zeros", [](const Shape& s, OptionalDType t) { return zeros(s, t); },
      "Zeros of the given sizes.");
  bind_sized(
      m, "ones", [](const Shape& s, OptionalDType t) { return ones(s, t); },
      "Ones of the given sizes.");
  bind_random(
      m, "rand", [](const Shape& s, OptionalDType t, Generator* g) { return rand(s, t, g); },
      "Uniform numbers in [0, 1).");
  bind_random(
      m, "randn", [](const Shape& s, OptionalDType t, Generator* g) { return randn(s, t, g); },
      "Normal numbers of mean 0 and variance 1.");
  m.def(
      "full",
      [](const Shape& size, const Tensor& value, OptionalDType dtype, const Device& device,
         bool requires_grad) { return finish(full(size, value, dtype), device, requires_grad); },
      "size"_a, "fill_value"_a, LG_COMMON_ARGUMENTS, "fill_value everywhere.");

  bind_like(
      m, "empty_like", [](const Tensor& x, OptionalDType t) { return empty_like(x, t); },
      "empty() of x's sizes.");
  bind_like(
      m, "zeros_like", [](const Tensor& x, OptionalDType t) { return zeros_like(x, t); },
      "Zeros of x's sizes.");
  bind_like(
      m, "ones_like", [](const Tensor& x, OptionalDType t) { return ones_like(x, t); },
      "Ones of x's sizes.");
  bind_like(
      m, "rand_like",
      [](const Tensor& x, OptionalDType t) { return rand(x.shape(), t.value_or(x.dtype())); },
      "rand() of x's sizes.");
  bind_like(
      m, "randn_like",
      [](const Tensor& x, OptionalDType t) { return randn(x.shape(), t.value_or(x.dtype())); },
      "randn() of x's sizes.");
  m.def(
      "full_like",
      [](const Tensor& x, const Tensor& value, OptionalDType dtype, const Device& device,
         bool requires_grad) { return finish(full_like(x, value, dtype), device, requires_grad); },
      "x"_a, "fill_value"_a, nb::kw_only(), LG_COMMON_ARGUMENTS,
      "fill_value everywhere, of x's sizes.");

  m.def(
      "arange",
      [](const Tensor& end, OptionalDType dtype, const Device& device, bool requires_grad) {
        return finish(arange(0, end, 1, dtype), device, requires_grad);
      },
      "end"_a, nb::kw_only(), LG_COMMON_ARGUMENTS);
  m.def(
      "arange",
      [](const Tensor& start, const Tensor& end, const Tensor& step, OptionalDType dtype,
         const Device& device, bool requires_grad) {
        return finish(arange(start, end, step, dtype), device, requires_grad);
      },
      "start"_a, "end"_a, "step"_a = 1, nb::kw_only(), LG_COMMON_ARGUMENTS,
      "start, start + step, ... below end; int64 when all are integers.");
  m.def(
      "linspace",
      [](double start, double end, std::int64_t steps, OptionalDType dtype, const Device& device,
         bool requires_grad) {
        return finish(linspace(start, end, steps, dtype), device, requires_grad);
      },
      "start"_a, "end"_a, "steps"_a, nb::kw_only(), LG_COMMON_ARGUMENTS,
      "steps numbers from start to end, both included.");
  m.def(
      "eye",
      [](std::int64_t n, std::optional<std::int64_t> columns, OptionalDType dtype,
         const Device& device, bool requires_grad) {
        if (n < 0 || columns.value_or(0) < 0) {
          fail(ErrorKind::value, "eye", "got ", n, " rows and ", columns.value_or(n),
               " columns, expected at least 0");
        }
        return finish(eye(n, columns.value_or(-1), dtype), device, requires_grad);
      },
      "n"_a, "m"_a = nb::none(), nb::kw_only(), LG_COMMON_ARGUMENTS,
      "Ones on the diagonal of an n by m matrix.");
  auto random_integers = [](std::int64_t low, std::int64_t high, const Shape& size,
                            Generator* generator, OptionalDType dtype, const Device& device,
                            bool requires_grad) {
    return finish(randint(low, high, size, dtype, generator), device, requires_grad);
  };
  m.def("randint", random_integers, "low"_a, "high"_a, "size"_a, nb::kw_only(),
        "generator"_a = nb::none(), LG_COMMON_ARGUMENTS, "Uniform integers in [low, high).");
  m.def(
      "randint",
      [=](std::int64_t high, const Shape& size, Generator* generator, OptionalDType dtype,
          const Device& device, bool requires_grad) {
        return random_integers(0, high, size, generator, dtype, device, requires_grad);
      },
      "high"_a, "size"_a, nb::kw_only(), "generator"_a = nb::none(), LG_COMMON_ARGUMENTS);
  m.def(
      "randperm", [](std::int64_t n, Generator* generator) { return randperm(n, generator); },
      "n"_a, nb::kw_only(), "generator"_a = nb::none(), "0 to n - 1 in random order.");
}

}  // namespace lg::python

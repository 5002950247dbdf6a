// overloads.h: other ways to call rows of the table, which PyTorch's users know.
#pragma once

#include "common.h"

namespace lg::python {
void bind_overloads(nb::module_& m, nb::class_<PyTensor>& tensor);  // after the rows themselves
}

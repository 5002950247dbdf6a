// datasets.h: data sets and transforms on their way between Python and C++, and the sample that a
// thread is making, whose random numbers Python code may ask for.
#pragma once

#include "common.h"

namespace lg::python {

// What transforms and lg.utils.data.sample_generator() go by, while a loader makes a sample.
struct CurrentSample {
  data::Draw draw;
  std::int64_t number;
};
inline thread_local const CurrentSample* current_sample = nullptr;

class SampleScope {
 public:
  SampleScope(data::Draw draw, std::int64_t number)
      : sample_{draw, number}, outer_(std::exchange(current_sample, &sample_)) {}
  ~SampleScope() { current_sample = outer_; }
  SampleScope(const SampleScope&) = delete;
  SampleScope& operator=(const SampleScope&) = delete;

 private:
  CurrentSample sample_;
  const CurrentSample* outer_;
};

// Tensors as a tuple; what a Python data set made as it is.
nb::object to_python(const data::Sample& sample);

// A data set of C++, or any object with __len__ and __getitem__, whose samples `collate` makes a
// batch of (None: default_collate). A `collate` makes them out of a data set of C++ too.
std::shared_ptr<const data::Dataset> dataset_from(nb::handle object, nb::handle collate,
                                                  const char* operation);
// None, a transform of lightgrad.transforms, or a function of one image.
data::ImageTransform image_transform_from(nb::handle transform);

// Adds a line to a Python exception, where Python (3.11) has such.
void add_note(nb::python_error& error, const std::string& note);

void bind_datasets(nb::module_& m);
void bind_transforms(nb::module_& m);
void bind_loader(nb::module_& m);

}  // namespace lg::python

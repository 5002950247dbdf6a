// consumer.cpp: what a user of the installed library relies on: one header, gradients that cross
// the library's border, and errors that can be caught by type on this side of it.
#include <lightgrad/lightgrad.h>

#include <cstdio>
#include <cstring>
#include <vector>

int main() {
  const lg::Tensor w = lg::ones({3});
  w.set_requires_grad();
  const lg::Tensor x = lg::tensor<float>({0, 1, 2});
  lg::sum(w * x * x).backward();
  const auto gradient = w.grad().to_vector<float>();
  if (gradient != std::vector<float>{0, 1, 4}) {
    std::printf("gradient is %s, not [0, 1, 4]\n", w.grad().to_string().c_str());
    return 1;
  }
  try {
    lg::ones({2, 3}) + lg::ones({4});
    std::printf("shapes [2, 3] and [4] were added\n");
    return 1;
  } catch (const lg::Error& error) {
    if (error.kind() != lg::ErrorKind::value || !std::strstr(error.what(), "add: ")) {
      std::printf("another error: %s\n", error.what());
      return 1;
    }
  }
  std::printf("consumer: gradients and errors cross the border of the library\n");
}

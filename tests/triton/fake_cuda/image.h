// image.h: what the stand-in knows of a kernel's code: its functions' parameters, threads and
// target, read from a cubin's ELF sections or from the text of PTX.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace fake_cuda {

struct Function {
  std::string name;
  std::vector<int> parameter_sizes;
  int threads = 0;             // 0: any number
  int max_shared = 48 * 1024;  // raised by cuFuncSetAttribute
  bool has_clusters = false;
  int module = -1;
};

struct Image {
  bool is_ptx = false;
  int arch = 0;                 // 90
  bool only_that_arch = false;  // sm_90a
  int elf_abi = 0;              // 8: of CUDA 13
  int ptx_version = 0;          // 80: 8.0
  std::size_t size = 0;         // in bytes
  std::map<std::string, Function> functions;
};

// False where it is neither, or damaged.
bool read_image(const void* data, Image& image);

}  // namespace fake_cuda

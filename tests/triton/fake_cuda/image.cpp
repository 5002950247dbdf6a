#include "tests/triton/fake_cuda/image.h"

#include <elf.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace fake_cuda {
namespace {

// .nv.info.<function>: records of a format, a kind, a size, and that many bytes.
constexpr int with_size = 4, parameter_info = 0x17, required_threads = 0x10;

void read_info(const unsigned char* p, const unsigned char* end, Function& f) {
  std::map<int, int> sizes;
  while (p + 4 <= end) {
    const int format = p[0], kind = p[1], size = p[2] | p[3] << 8;
    if (format != with_size) {
      p += 4;
      continue;
    }
    std::uint32_t words[3] = {};
    std::memcpy(words, p + 4, std::min<std::size_t>(sizeof words, static_cast<std::size_t>(size)));
    if (kind == parameter_info) sizes[static_cast<int>(words[1] & 0xffff)] = int(words[2] >> 18);
    if (kind == required_threads) f.threads = static_cast<int>(words[0] * words[1] * words[2]);
    p += 4 + size;
  }
  for (const auto& [index, size] : sizes) f.parameter_sizes.push_back(size);
}

bool read_elf(const unsigned char* bytes, Image& image) {
  const auto& head = *reinterpret_cast<const Elf64_Ehdr*>(bytes);
  image.elf_abi = head.e_ident[EI_ABIVERSION];
  image.arch =
      static_cast<int>(image.elf_abi >= 8 ? head.e_flags >> 8 & 0xff : head.e_flags & 0xff);
  image.only_that_arch = image.arch >= 90;
  const auto* sections = reinterpret_cast<const Elf64_Shdr*>(bytes + head.e_shoff);
  const char* names = reinterpret_cast<const char*>(bytes + sections[head.e_shstrndx].sh_offset);
  for (int i = 0; i < head.e_shnum; ++i) {
    const std::string name = names + sections[i].sh_name;
    if (name.starts_with(".text.")) image.functions[name.substr(6)].name = name.substr(6);
  }
  for (int i = 0; i < head.e_shnum; ++i) {
    const std::string name = names + sections[i].sh_name;
    if (!name.starts_with(".nv.info.")) continue;
    const auto it = image.functions.find(name.substr(9));
    if (it == image.functions.end()) continue;
    const unsigned char* p = bytes + sections[i].sh_offset;
    read_info(p, p + sections[i].sh_size, it->second);
  }
  image.size = head.e_shoff + std::size_t{head.e_shnum} * head.e_shentsize;
  image.size = std::max<std::size_t>(image.size,
                                     head.e_phoff + std::size_t{head.e_phnum} * head.e_phentsize);
  for (int i = 0; i < head.e_shnum; ++i) {
    if (sections[i].sh_type != SHT_NOBITS)
      image.size = std::max<std::size_t>(image.size, sections[i].sh_offset + sections[i].sh_size);
  }
  return !image.functions.empty();
}

// ".param .u64 .ptr .global .align 1 name": the size is in the type.
int size_of_type(const char* type) {
  while (*type && !strchr("0123456789", *type)) ++type;
  return std::atoi(type) / 8;
}

bool read_ptx(const char* text, Image& image) {
  image.is_ptx = true;
  image.size = std::strlen(text);
  const char* version = std::strstr(text, ".version ");
  const char* target = std::strstr(text, ".target sm_");
  const char* entry = std::strstr(text, ".visible .entry ");
  if (!version || !target || !entry) return false;
  char* after = nullptr;
  image.ptx_version = static_cast<int>(10 * std::strtol(version + 9, &after, 10));
  if (*after == '.') image.ptx_version += std::atoi(after + 1);
  image.arch = static_cast<int>(std::strtol(target + 11, &after, 10));
  image.only_that_arch = *after == 'a';
  const char* open = std::strchr(entry, '(');
  const char* close = open ? std::strchr(open, '{') : nullptr;
  if (!close) return false;
  Function f;
  f.name.assign(entry + 16, open);
  for (const char* p = open; (p = std::strstr(p, ".param ")) && p < close; ++p)
    f.parameter_sizes.push_back(size_of_type(p + 7));
  if (const char* threads = std::strstr(text, ".reqntid ")) f.threads = std::atoi(threads + 9);
  image.functions[f.name] = f;
  return true;
}

}  // namespace

bool read_image(const void* data, Image& image) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  return std::memcmp(bytes, ELFMAG, SELFMAG) == 0 ? read_elf(bytes, image)
                                                  : read_ptx(static_cast<const char*>(data), image);
}

}  // namespace fake_cuda

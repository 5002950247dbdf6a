// device.h: where a tensor's numbers lie. Every tensor carries one; only `cpu` has a backend today.
#pragma once

#include <cstdint>
#include <string>

namespace lg {

enum class DeviceType : std::uint8_t { cpu, cuda };

struct Device {
  DeviceType type = DeviceType::cpu;
  std::int8_t index = 0;

  bool operator==(const Device&) const = default;
  std::string to_string() const {
    return type == DeviceType::cpu ? "cpu" : "cuda:" + std::to_string(index);
  }
};

}  // namespace lg

// where.h: base knows that somebody may say where we are (a module path), not who says it.
#pragma once

#include <string>

namespace lg {

// One link of a thread's chain of scopes; lives on the stack of the scope's owner.
struct Frame {
  const Frame* outer;
  const void* object;
  std::string (*path)(const Frame*);
};

inline thread_local const Frame* current_frame = nullptr;

// The dotted path of the innermost scope, or empty.
inline std::string where() {
  return current_frame ? current_frame->path(current_frame) : std::string();
}

}  // namespace lg

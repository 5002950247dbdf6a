// poll.h: a chance to stop. A backward pass calls `poll` between its nodes; whoever embeds the
// library may throw there (Python does, when Ctrl-C was pressed). The pass then ends as after any
// other error.
#pragma once

#include <atomic>

namespace lg::autograd {

inline std::atomic<void (*)()> poll{nullptr};

}  // namespace lg::autograd

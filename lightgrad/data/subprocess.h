// subprocess.h: a program run to its end or to its time limit, without a shell.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace lg::data {

struct RunResult {
  bool started = false;
  // Empty when the program ended with status 0; else why not, in one line: the system's reason, the
  // time limit, or the status with the last line that the program wrote to stderr.
  std::string failure;
};

// Its stdin and stdout are /dev/null. It stays in our process group: Ctrl-C ends it too. `tick` is
// called about ten times a second while it runs; when it throws, the program is ended first.
RunResult run_program(const std::vector<std::string>& command, double seconds,
                      const std::function<void()>& tick = {});

}  // namespace lg::data

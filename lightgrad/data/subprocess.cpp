#include "lightgrad/data/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <exception>
#include <string_view>
#include <system_error>

#include "lightgrad/base/error.h"

extern char** environ;

namespace lg::data {
namespace {

using Clock = std::chrono::steady_clock;

std::string reason(int error) { return std::generic_category().message(error); }

// The last line that is not blank.
std::string_view last_line(std::string_view s) {
  const auto end = s.find_last_not_of(" \r\n\t");
  if (end == s.npos) return {};
  s = s.substr(0, end + 1);
  const auto line = s.rfind('\n');
  return line == s.npos ? s : s.substr(line + 1);
}

// Reads until all writers are gone; false when time is up first. Keeps the last few KiB.
bool drain(int pipe, Clock::time_point deadline, const std::function<void()>& tick,
           std::string& output) {
  for (;;) {
    if (tick) tick();
    const std::int64_t left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    pollfd ready{pipe, POLLIN, 0};
    const int n =
        poll(&ready, 1, static_cast<int>(tick ? std::min<std::int64_t>(left, 100) : left));
    if (n == 0 || (n < 0 && errno == EINTR)) continue;
    if (n < 0) return false;
    char buffer[4096];
    const ssize_t got = read(pipe, buffer, sizeof buffer);
    if (got <= 0) return true;
    output.append(buffer, static_cast<std::size_t>(got));
    if (output.size() > 2 * sizeof buffer) output.erase(0, output.size() - sizeof buffer);
  }
}

}  // namespace

RunResult run_program(const std::vector<std::string>& command, double seconds,
                      const std::function<void()>& tick) {
  const auto deadline = Clock::now() + std::chrono::milliseconds(std::int64_t(seconds * 1000));
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return {false, text(command[0], ": ", reason(errno))};

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
  std::vector<char*> arguments;
  for (const std::string& a : command) arguments.push_back(const_cast<char*>(a.c_str()));
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int error =
      posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);

  std::string output;
  bool ended = false;
  std::exception_ptr thrown;
  try {
    ended = !error && drain(ends[0], deadline, tick, output);
  } catch (...) {
    thrown = std::current_exception();
  }
  close(ends[0]);
  if (error) return {false, text(command[0], ": ", reason(error))};
  if (!ended) kill(child, SIGKILL);
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return {true, text(command[0], ": ", reason(errno))};
  }
  if (thrown) std::rethrow_exception(thrown);
  if (!ended) return {true, text(command[0], " took longer than ", seconds, " s")};
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {true, {}};
  std::string why =
      text(command[0], WIFEXITED(status) ? " ended with status " : " ended by signal ",
           WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
  if (const auto line = last_line(output); !line.empty()) why += text(": ", line.substr(0, 200));
  return {true, why};
}

}  // namespace lg::data

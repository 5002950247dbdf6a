// progress.h: how far training is, on stderr: one line that is redrawn on a terminal, else a line
// now and then. stdout is left to results.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

class Progress {
 public:
  Progress(std::int64_t first, std::int64_t steps, std::int64_t tokens_per_step)
      : first_(first), steps_(steps), tokens_per_step_(static_cast<double>(tokens_per_step)) {}

  void update(std::int64_t step, double loss) {
    const auto now = Clock::now();
    if (now - drawn_ < (terminal_ ? std::chrono::milliseconds(100) : std::chrono::seconds(10))) {
      return;
    }
    drawn_ = now;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const auto done = static_cast<double>(step - first_), left = static_cast<double>(steps_ - step);
    const auto eta = static_cast<long>(seconds / done * left + 0.5);
    std::string bar(20, ' ');
    bar.replace(0, static_cast<std::size_t>(20 * step / steps_), 20 * step / steps_, '=');
    std::fprintf(stderr, "%s[%s] %lld/%lld  loss %.4f  %.0f tokens/s  %ld:%02ld left%s",
                 terminal_ ? "\r" : "", bar.c_str(), static_cast<long long>(step),
                 static_cast<long long>(steps_), loss, done * tokens_per_step_ / seconds, eta / 60,
                 eta % 60, terminal_ ? "\033[K" : "\n");
  }

  void finish() const {
    clear();
    if (steps_ <= first_) return;
    const std::chrono::duration<double> seconds = Clock::now() - start_;
    std::fprintf(stderr, "%lld steps in %.1f s\n", static_cast<long long>(steps_ - first_),
                 seconds.count());
  }

  // Makes room for other output.
  void clear() const {
    if (terminal_) std::fputs("\r\033[K", stderr);
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::int64_t first_, steps_;
  double tokens_per_step_;
  bool terminal_ = isatty(STDERR_FILENO);
  Clock::time_point start_ = Clock::now(), drawn_ = start_;
};

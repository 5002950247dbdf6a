// progress.h: how far training is, on stderr: one line that is redrawn on a terminal, else a line
// now and then. stdout is left to results. progress.py is the same in Python.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>

class Progress {
 public:
  // From step `first` on; a step works on so many of `unit`, whose rate is shown.
  Progress(std::int64_t first, std::int64_t steps, std::int64_t per_step, std::string unit)
      : first_(first),
        steps_(steps),
        per_step_(static_cast<double>(per_step)),
        unit_(std::move(unit)) {}

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
    std::fprintf(stderr, "%s[%s] %lld/%lld  loss %.4f  %.0f %s/s  %ld:%02ld left%s",
                 terminal_ ? "\r" : "", bar.c_str(), static_cast<long long>(step),
                 static_cast<long long>(steps_), loss, done * per_step_ / seconds, unit_.c_str(),
                 eta / 60, eta % 60, terminal_ ? "\033[K" : "\n");
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
  double per_step_;
  std::string unit_;
  bool terminal_ = isatty(STDERR_FILENO);
  Clock::time_point start_ = Clock::now(), drawn_ = start_;
};

// How far a download is, where stderr is a terminal.
inline std::function<void(std::int64_t done, std::int64_t total)> download_bar() {
  if (!isatty(STDERR_FILENO)) return {};
  return [](std::int64_t done, std::int64_t total) {
    if (done == total) {
      std::fputs("\r\033[K", stderr);
    } else {
      std::fprintf(stderr, "\rdownload: %.1f of %.1f MB\033[K", static_cast<double>(done) / 1e6,
                   static_cast<double>(total) / 1e6);
    }
  };
}

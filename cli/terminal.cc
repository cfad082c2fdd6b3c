#include "terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace heapcore {

bool use_color(ColorChoice choice) {
  if (choice != ColorChoice::kAuto) return choice == ColorChoice::kAlways;
  const char* term = std::getenv("TERM");
  const bool dumb = term == nullptr || std::string_view(term) == "dumb";
  return ::isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr && !dumb;
}

std::size_t terminal_width() {
  constexpr std::size_t kDefaultWidth = 100;
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col != 0 ? size.ws_col : kDefaultWidth;
}

namespace {
constexpr std::int64_t kPatienceMs = 200;
}

ProgressLine::ProgressLine(bool wanted) : enabled_(wanted && ::isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() {
  end();
}

void ProgressLine::begin(std::string_view pass, std::uint64_t total) {
  if (!enabled_) return;
  end();
  pass_ = pass;
  total_ = total;
  done_ = 0;
  start_ = std::chrono::steady_clock::now();
  next_draw_ms_ = kPatienceMs;  // a pass shorter than that needs no progress
  // One that cannot say how far it is will not be heard of again.
  if (total == 0 && start_ - born_ > std::chrono::milliseconds(kPatienceMs)) {
    const std::lock_guard lock(mutex_);
    draw();
  }
}

void ProgressLine::advance(std::uint64_t amount) {
  if (!enabled_) return;
  done_ += amount;
  const auto elapsed = std::chrono::steady_clock::now() - start_;
  const std::int64_t now = std::chrono::duration_cast<std::chrono::milliseconds>(elapsed).count();
  std::int64_t due = next_draw_ms_;
  if (now < due || !next_draw_ms_.compare_exchange_strong(due, now + 100)) return;
  const std::lock_guard lock(mutex_);
  draw();
}

void ProgressLine::draw() {
  drawn_ = true;
  if (total_ == 0) {
    fmt::print(stderr, "\r\x1b[K{} ...", pass_);
  } else {
    fmt::print(stderr, "\r\x1b[K{} {:3.0f} %", pass_, 100.0 * static_cast<double>(done_) / static_cast<double>(total_));
  }
  std::fflush(stderr);
}

void ProgressLine::end() {
  if (!enabled_ || !drawn_) return;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
  drawn_ = false;
}

}  // namespace heapcore

// What only a terminal gets: progress, and colour.
#pragma once

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>

#include "options.h"
#include "support/progress.h"

namespace heapcore {

bool use_color(ColorChoice choice);
// Columns of the terminal on standard output; 100 if that is none.
std::size_t terminal_width();

// One line on standard error that is drawn over itself, at most ten times a second, and gone at the end.
class ProgressLine : public Progress {
 public:
  explicit ProgressLine(bool wanted);
  ~ProgressLine() override;

  void begin(std::string_view pass, std::uint64_t total) override;
  void advance(std::uint64_t amount) override;
  void end() override;

 private:
  void draw();

  bool enabled_;
  bool drawn_ = false;
  std::string pass_;
  std::uint64_t total_ = 0;
  std::atomic<std::uint64_t> done_{0};
  std::atomic<std::int64_t> next_draw_ms_{0};
  std::mutex mutex_;
  std::chrono::steady_clock::time_point start_;
  const std::chrono::steady_clock::time_point born_ = std::chrono::steady_clock::now();
};

}  // namespace heapcore

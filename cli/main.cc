#include <fmt/format.h>
#include <sys/resource.h>
#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <thread>

#include "commands.h"
#include "options.h"
#include "output_file.h"
#include "terminal.h"

namespace {

// All that oneTBB will want: later there may be no room for their stacks, and oneTBB does not do with fewer.
void start_threads(std::size_t count) {
  std::atomic<std::size_t> here{0};
  const auto patience = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
  tbb::parallel_for(
      tbb::blocked_range<std::size_t>(0, count, 1),
      [&](const tbb::blocked_range<std::size_t>&) {
        for (++here; here < count && std::chrono::steady_clock::now() < patience;) std::this_thread::yield();
      },
      tbb::simple_partitioner());
}

// Of what is written to, be it used or not: what is mapped to be read costs nothing that others need.
void limit_memory(std::uint64_t bytes) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_DATA, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, bytes);
  ::setrlimit(RLIMIT_DATA, &limit);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace heapcore;
  std::signal(SIGPIPE, SIG_IGN);  // `heapcore ... | head` ends quietly, by a failed write
  std::signal(SIGXFSZ, SIG_IGN);  // beyond ulimit -f a write fails
  EarlyExit early;
  const std::optional<Options> options = parse_command_line(argc, argv, early);
  if (!options) {
    if (early.status == ExitStatus::kAnswered) {
      return static_cast<int>(write_answer(early.text) ? ExitStatus::kAnswered : ExitStatus::kUnreadable);
    }
    fmt::print(stderr, "{}", early.text);
    return static_cast<int>(early.status);
  }
  const std::size_t threads = options->threads > 0 ? static_cast<std::size_t>(options->threads)
                                                   : std::max(1U, std::thread::hardware_concurrency());
  const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
  end_cleanly_on_signals();
  end_cleanly_on_exceptions();
  if (options->max_memory_bytes != 0) {
    start_threads(threads);
    limit_memory(options->max_memory_bytes);
  }
  ProgressLine progress(options->progress);
  return static_cast<int>(run_command(*options, progress));
}

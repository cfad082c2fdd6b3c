#include <fmt/format.h>
#include <tbb/global_control.h>

#include <csignal>
#include <cstdio>
#include <optional>
#include <thread>

#include "commands.h"
#include "options.h"
#include "output_file.h"
#include "terminal.h"

int main(int argc, char** argv) {
  using namespace heapcore;
  std::signal(SIGPIPE, SIG_IGN);  // `heapcore ... | head` ends quietly, by a failed write
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
  ProgressLine progress(options->progress);
  return static_cast<int>(run_command(*options, progress));
}

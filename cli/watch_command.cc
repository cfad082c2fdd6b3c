#include "watch_command.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <ctime>
#include <thread>

#include "capture_command.h"
#include "commands.h"
#include "coreparse/resident.h"
#include "output_file.h"
#include "report/answers.h"
#include "report/format.h"

namespace heapcore {
namespace {

// Another core is taken when this much more is resident than at the one before.
constexpr double kGrowth = 1.25;

class Watcher {
 public:
  Watcher(const Options& options, Progress& progress, Timings& timings)
      : options_(options), progress_(progress), timings_(timings), next_bytes_(options.rss_above_bytes) {}

  ExitStatus run() {
    const Result<ResidentWatch> watch = ResidentWatch::open(options_.target.pid);
    if (!watch) return refuse(watch.error(), progress_);
    if (::access(options_.output.c_str(), W_OK | X_OK) != 0) {
      return refuse({ErrorCode::kNotFound,
                     fmt::format("{} is no folder that can be written to: {}", options_.output, errno_text(errno)),
                     "make it first, or name another with -o"},
                    progress_);
    }
    say(fmt::format("waiting until more than {} are resident", bytes_text(next_bytes_)));
    const std::chrono::duration<double> interval(options_.interval_seconds);
    for (;; std::this_thread::sleep_for(interval)) {
      const std::optional<std::uint64_t> rss_bytes = watch->rss_bytes();
      if (!rss_bytes) return ended("the process has ended");
      if (*rss_bytes <= next_bytes_) continue;
      const std::optional<ExitStatus> failed = take(*rss_bytes);
      if (failed) {
        if (watch->rss_bytes()) return *failed;
        return ended("the process ended while it was captured");
      }
      if (taken_ == options_.at_most) return ended("that was the last of them");
      if (options_.disk_bytes != 0 && left_bytes() == 0) return ended("the cores take all that --disk allows");
      next_bytes_ = static_cast<std::uint64_t>(static_cast<double>(*rss_bytes) * kGrowth);
      say(fmt::format("waiting until more than {} are resident", bytes_text(next_bytes_)));
    }
  }

 private:
  std::uint64_t left_bytes() const { return options_.disk_bytes - std::min(options_.disk_bytes, used_bytes_); }

  // The status to end with if it cannot.
  std::optional<ExitStatus> take(std::uint64_t rss_bytes) {
    const std::string path = next_path(rss_bytes);
    OutputFile output(path, {false, true});
    if (!output.open()) return ExitStatus::kUnreadable;
    CaptureOptions how;
    how.name = path;
    how.compress = true;
    how.stop = options_.target.files.stop;
    how.buffer_bytes = options_.buffer_bytes;
    how.most_file_bytes = options_.disk_bytes == 0 ? 0 : left_bytes();
    const Result<CaptureSummary> summary = capture(options_, how, output.descriptor(), progress_, timings_);
    if (!summary) return refuse(summary.error(), progress_);
    if (!output.commit()) return ExitStatus::kUnreadable;
    ++taken_;
    used_bytes_ += summary->file_bytes;
    say(fmt::format("{} resident: {}, {}; it stood still for {:.1f} ms", bytes_text(rss_bytes), path,
                    bytes_text(summary->file_bytes), summary->info.pause_seconds * 1000));
    fmt::print(stderr, "{}", warnings_text(summary->findings));
    return std::nullopt;
  }

  std::string next_path(std::uint64_t rss_bytes) const {
    const std::time_t now = std::time(nullptr);
    std::tm utc{};
    ::gmtime_r(&now, &utc);
    return fmt::format("{}/heapcore-{}-{:04}{:02}{:02}T{:02}{:02}{:02}Z-{}M.core.zst", options_.output,
                       options_.target.pid, utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min,
                       utc.tm_sec, rss_bytes >> 20);
  }

  void say(const std::string& text) {
    progress_.end();
    fmt::print(stderr, "heapcore: process {}: {}\n", options_.target.pid, text);
    std::fflush(stderr);
  }

  ExitStatus ended(const std::string& why) {
    say(fmt::format("{}; {} taken", why, counted(static_cast<std::uint64_t>(taken_), "core")));
    return ExitStatus::kAnswered;
  }

  const Options& options_;
  Progress& progress_;
  Timings& timings_;
  std::uint64_t next_bytes_;
  std::uint64_t used_bytes_ = 0;
  int taken_ = 0;
};

}  // namespace

ExitStatus run_watch(const Options& options, Progress& progress, Timings& timings) {
  return Watcher(options, progress, timings).run();
}

}  // namespace heapcore

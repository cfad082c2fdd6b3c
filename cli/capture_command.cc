#include "capture_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "analysis/process.h"
#include "analysis/withhold.h"
#include "commands.h"
#include "output_file.h"
#include "report/answers.h"
#include "report/format.h"

namespace heapcore {
namespace {

using Json = nlohmann::ordered_json;

Json capture_json(const Options& options, const CaptureSummary& summary) {
  Json json;
  json["path"] = options.output;
  json["file_bytes"] = summary.file_bytes;
  json["memory_bytes"] = summary.memory_bytes;
  json["threads"] = summary.threads;
  json["strings"] = options.strings;
  return json;
}

std::string capture_text(const Options& options, const CaptureSummary& summary) {
  const std::string pause = options.target.files.stop
                                ? fmt::format("it stood still for {:.1f} ms", summary.info.pause_seconds * 1000)
                                : std::string("it was not stopped");
  return fmt::format("{}: {} on disk, {} of memory and {} of process {}; {}\n",
                     options.output == "-" ? "standard output" : options.output, bytes_text(summary.file_bytes),
                     bytes_text(summary.memory_bytes), counted(summary.threads, "thread"), summary.info.pid, pause);
}

// Who waited for the disk, and need not have. Empty otherwise.
std::string buffer_hint(const Options& options, const CaptureSummary& summary) {
  constexpr double kLongSeconds = 0.5;
  const bool waited =
      options.strings && summary.info.pause_seconds > kLongSeconds && summary.memory_bytes > options.buffer_bytes;
  if (!waited) return "";
  return fmt::format("it waited for what was written; with --buffer {}M it would wait only until its memory is read\n",
                     (summary.memory_bytes >> 20) + 1);
}

}  // namespace

Result<CaptureSummary> capture(const Options& options, const CaptureOptions& how, int descriptor, Progress& progress,
                               Timings& timings) {
  if (options.strings) {
    return timings.time("capture", [&] { return capture_process(options.target.pid, descriptor, how, progress); });
  }
  // Where strings lie is known only when all objects are.
  TargetName target = options.target;
  target.malloc_layout = LayoutSource::kTables;
  Result<Process> process = open_target(target, progress, timings);
  if (!process) return process.error();
  if (process->runtime() == nullptr) {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("the strings of process {} cannot be left out: no Python was found in it", target.pid),
                 "capture it with them, without --no-strings"};
  }
  const Withheld withheld =
      timings.time("decode", [&] { return contents_to_withhold(*process, progress, process->findings); });
  Result<CaptureSummary> summary = timings.time(
      "capture", [&] { return write_core(process->snapshot, withheld.ranges, descriptor, how, progress); });
  if (!summary) return summary;
  progress.end();
  summary->findings.merge(process->findings);
  fmt::print(stderr,
             "heapcore: left out {} of {} and {} of free memory; kept {}; native buffers and stacks are as they were\n",
             bytes_text(withheld.strings.bytes), counted(withheld.strings.count, "string"),
             bytes_text(withheld.free_bytes), counted(withheld.names.count, "name"));
  return summary;
}

ExitStatus run_capture(const Options& options, Progress& progress, Timings& timings) {
  const bool to_stdout = options.output == "-";
  if (to_stdout && ::isatty(STDOUT_FILENO) == 1) {
    return refuse({ErrorCode::kUsage, "standard output is a terminal, and a core is no text", "name a file with -o"},
                  progress);
  }
  OutputFile output(to_stdout ? "" : options.output, {options.force, true});
  if (!output.open()) return ExitStatus::kUnreadable;
  CaptureOptions how;
  how.name = to_stdout ? "standard output" : options.output;
  how.compress = to_stdout || options.output.ends_with(".zst");
  how.stop = options.target.files.stop;
  how.buffer_bytes = options.buffer_bytes;
  const Result<CaptureSummary> summary = capture(options, how, output.descriptor(), progress, timings);
  if (!summary) return refuse(summary.error(), progress);
  if (!output.commit()) return ExitStatus::kUnreadable;
  const std::string text = capture_text(options, *summary);
  Process described;
  described.snapshot.info = summary->info;
  described.findings.merge(summary->findings);
  if (options.json && !to_stdout) {
    Json document = document_head("capture", described);
    document["capture"] = capture_json(options, *summary);
    if (!write_answer(document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"))
      return ExitStatus::kUnreadable;
  } else {
    fmt::print(stderr, "{}{}{}", text, buffer_hint(options, *summary), warnings_text(described.findings));
  }
  return described.findings.incomplete() ? ExitStatus::kIncomplete : ExitStatus::kAnswered;
}

}  // namespace heapcore

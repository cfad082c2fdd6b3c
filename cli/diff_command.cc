#include "diff_command.h"

#include <fmt/format.h>

#include "analysis/diff.h"
#include "report/diff_answers.h"

namespace heapcore {

Error no_python_to_compare(const Process& process) {
  const TargetInfo& info = process.snapshot.info;
  const std::string name = info.path.empty() ? fmt::format("process {}", info.pid) : info.path;
  return {ErrorCode::kUnsupported,
          fmt::format("{} holds no Python that could be read, so its objects cannot be compared", name),
          "heapcore report says what was found in it"};
}

Result<Process> open_older(const Options& options, Progress& progress, Timings& timings) {
  TargetName target = options.target;
  target.core = options.older;
  target.pid = 0;
  return open_target(target, progress, timings);
}

void take_findings_of_older(const Process& older, Findings& findings) {
  for (Finding finding : older.findings.kept()) {
    finding.detail = "in the older: " + finding.detail;
    findings.add(std::move(finding));
  }
}

Result<Answer> answer_diff(const Options& options, Process& newer, Progress& progress, Timings& timings,
                           const TextStyle& style) {
  Result<Process> older = open_older(options, progress, timings);
  if (!older) return older.error();
  for (const Process* process : {&*older, &newer}) {
    if (process->runtime() == nullptr) return no_python_to_compare(*process);
  }
  DiffOptions how;
  how.limit = options.limit.value_or(how.limit);
  how.values = options.values;
  const Diff diff = compare(*older, newer, how, progress, timings);
  take_findings_of_older(*older, newer.findings);
  return Answer{diff_json(diff, *older), diff_text(diff, *older, style)};
}

}  // namespace heapcore

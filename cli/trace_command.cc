#include "trace_command.h"

#include "diff_command.h"
#include "report/trace_answers.h"

namespace heapcore {

Result<Answer> answer_trace(const Options& options, Process& process, Progress& progress, Timings& timings,
                            const TextStyle& style) {
  TraceOptions how = options.trace;
  how.limit = options.limit.value_or(how.limit);
  how.values = options.values;
  const auto read = [&](Process& from) {
    return timings.time("trace", [&] { return read_trace_tables(from.snapshot, *from.runtime(), from.findings); });
  };
  std::optional<OlderSites> before;
  if (!options.older.empty()) {
    Result<Process> older = open_older(options, progress, timings);
    if (!older) return older.error();
    if (older->runtime() == nullptr) return no_python_to_compare(*older);
    if (const auto tables = read(*older)) before = sum_sites(*tables, how);
    take_findings_of_older(*older, process.findings);
  }
  TraceAnswer answer;
  const std::optional<TraceTables> tables = read(process);
  if (tables && tables->tracing) {
    const Holders holders = find_holders(process, progress, process.findings, timings);
    answer = timings.time("sites", [&] {
      return trace_answer(process, holders, *tables, how, before ? &*before : nullptr, process.findings);
    });
  } else if (tables) {
    answer.found = true;
    answer.located_by = tables->located_by;
  }
  return Answer{trace_json(answer, how), trace_text(answer, how, style)};
}

}  // namespace heapcore

#include "graph_commands.h"

#include <fmt/format.h>

#include "analysis/cycles.h"
#include "analysis/holders.h"
#include "report/holder_answers.h"

namespace heapcore {

Answer answer_retained(const Options& options, Process& process, Progress& progress, Timings& timings,
                       const TextStyle& style) {
  Holders holders = find_holders(process, progress, process.findings, timings);
  RetainedOptions how;
  how.limit = options.limit.value_or(how.limit);
  how.values = options.values;
  if (!options.addresses.empty()) {
    const Addr address = parse_object_address(options.addresses[0]).value_or(0);
    how.of = node_at(holders.graph.blocks, address);
    if (how.of == kNoNode) {
      process.findings.add({"no-such-block", Room::kAnalysis, address, "no object and no block in use is there"});
      return {retained_json({}), "no object and no block in use is there\n"};
    }
  }
  const RetainedAnswer answer =
      timings.time("summarise", [&] { return retained_answer(process, holders, how, process.findings); });
  return {retained_json(answer), retained_text(answer, style)};
}

Answer answer_cycles(const Options& options, Process& process, Progress& progress, Timings& timings,
                     const TextStyle& style) {
  const Holders holders = find_holders(process, progress, process.findings, timings);
  CyclesOptions how;
  how.limit = options.limit.value_or(how.limit);
  how.values = options.values;
  how.garbage_only = options.garbage;
  const CyclesAnswer answer =
      timings.time("cycles", [&] { return find_cycles(process, holders, how, process.findings); });
  return {cycles_json(answer), cycles_text(answer, style)};
}

}  // namespace heapcore

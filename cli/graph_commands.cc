#include "graph_commands.h"

#include <fmt/format.h>

#include "analysis/audit.h"
#include "analysis/cycles.h"
#include "analysis/holders.h"
#include "analysis/merged_paths.h"
#include "report/holder_answers.h"

namespace heapcore {
namespace {

// The block that an address on the command line is of; a warning if there is none.
NodeId named_node(const BlockTable& blocks, Addr address, Findings& findings) {
  const NodeId node = node_at(blocks, address);
  if (node == kNoNode)
    findings.add({"no-such-block", Room::kAnalysis, address, "no object and no block in use is there"});
  return node;
}

}  // namespace

Answer answer_retained(const Options& options, Process& process, Progress& progress, Timings& timings,
                       const TextStyle& style) {
  Holders holders = find_holders(process, progress, process.findings, timings);
  RetainedOptions how;
  how.limit = options.limit.value_or(how.limit);
  how.values = options.values;
  if (!options.addresses.empty()) {
    const Addr address = parse_object_address(options.addresses[0]).value_or(0);
    how.of = named_node(holders.graph.blocks, address, process.findings);
    if (how.of == kNoNode) return {retained_json({}), ""};
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

Answer answer_paths(const Options& options, Process& process, Progress& progress, Timings& timings,
                    const TextStyle& style) {
  const HeapGraph graph = link_heap(process, progress, process.findings, timings);
  const PathsOptions how = {options.limit.value_or(PathsOptions().limit), options.values};
  const PathsAnswer answer = timings.time("summarise", [&]() -> PathsAnswer {
    const std::string& what = options.addresses.at(0);
    const std::optional<Addr> address = parse_object_address(what);
    if (!address) return paths_of_types(process, graph, what, how, process.findings);
    const NodeId node = named_node(graph.blocks, *address, process.findings);
    return node == kNoNode ? PathsAnswer() : paths_of_node(process, graph, node, how, process.findings);
  });
  return {paths_json(answer, graph), options.dot ? paths_dot(answer, graph) : paths_text(answer, style)};
}

Answer answer_threads(const Options& options, Process& process, Progress& progress, Timings& timings,
                      const TextStyle& style) {
  const Holders holders = find_holders(process, progress, process.findings, timings);
  const ThreadsAnswer answer =
      timings.time("unwind", [&] { return find_threads(process, holders, options.values, process.findings); });
  return {threads_json(answer), threads_text(answer, style)};
}

Answer answer_audit(const Options& options, Process& process, Progress& progress, Timings& timings,
                    const TextStyle& style) {
  constexpr std::size_t kLimit = 20;
  const HeapGraph graph = link_heap(process, progress, process.findings, timings);
  const AuditAnswer answer =
      timings.time("summarise", [&] { return audit_counts(process, graph, options.limit.value_or(kLimit)); });
  return {audit_json(answer), audit_text(answer, style)};
}

}  // namespace heapcore

#include "analysis/incident.h"

#include "analysis/diagnose.h"
#include "glibc_heap/census.h"
#include "pyobj/mimalloc.h"

namespace heapcore {
namespace {

// Memory of which nobody said what is in it, and what an allocator should have accounted for and did not.
bool is_unexplained(const LedgerRow& row) {
  return row.category == "anonymous" || row.category.ends_with(" lost");
}

void weigh_ledger(Incident& incident) {
  for (const LedgerRow& row : incident.ledger.rows) {
    if (!is_unexplained(row)) incident.explained_bytes += row.bytes;
    incident.not_dumped_bytes += row.not_dumped_bytes;
  }
}

}  // namespace

Incident investigate(Process& process, const IncidentOptions& options, Progress& progress, Timings& timings) {
  Incident incident;
  if (process.runtime() != nullptr) incident.holders = find_holders(process, progress, process.findings, timings);
  // The census has met, and reported, whatever is damaged in pools and chunks.
  Findings reported_by_census;
  Findings& findings = incident.holders ? reported_by_census : process.findings;
  timings.time("walk", [&] {
    if (process.runtime() != nullptr)
      incident.obmalloc = summarise_allocator(process.snapshot, *process.runtime(), findings);
    if (Heap* heap = process.heap()) count_chunks(process.snapshot, *heap, findings);
  });
  timings.time("summarise", [&] {
    incident.ledger =
        make_ledger(process, incident.census(), incident.obmalloc ? &*incident.obmalloc : nullptr, process.findings);
    weigh_ledger(incident);
  });
  if (incident.holders) {
    const Holders& holders = *incident.holders;
    timings.time("retained", [&] {
      incident.retained = retained_answer(process, holders, {kNoNode, options.limit, options.values}, process.findings);
    });
    timings.time("cycles", [&] {
      incident.cycles = find_cycles(process, holders, {options.limit, options.values, false}, process.findings);
    });
    timings.time("audit", [&] { incident.audit = audit_counts(process, holders.graph, options.limit); });
    timings.time("unwind",
                 [&] { incident.threads = find_threads(process, holders, options.values, process.findings); });
  }
  Findings reported_by_now;
  timings.time("map", [&] { incident.map = map_memory(process, progress, reported_by_now); });
  if (incident.holders) {
    timings.time("pins", [&] {
      PinsOptions how;
      how.limit = options.limit;
      how.values = options.values;
      incident.pins = find_pins(process, *incident.holders, incident.map, how, process.findings);
    });
  }
  if (incident.holders && options.ownership) {
    timings.time("ownership", [&] {
      OwnershipOptions how;
      how.values = options.values;
      incident.ownership = find_ownership(process, *incident.holders, how, process.findings);
    });
  }
  timings.time("diagnose", [&] { incident.diagnoses = diagnose(process, incident, options); });
  return incident;
}

}  // namespace heapcore

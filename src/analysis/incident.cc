#include "analysis/incident.h"

#include "analysis/diagnose.h"

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

// The passes after the heap is linked, each named to whoever watches.
class Passes {
 public:
  Passes(Process& process, const IncidentOptions& options, Progress& progress, Timings& timings)
      : process_(process), options_(options), progress_(progress), timings_(timings) {}

  Incident run() {
    if (process_.runtime() != nullptr)
      incident_.holders = find_holders(process_, progress_, process_.findings, timings_);
    count_memory();
    if (incident_.holders) ask_holders(*incident_.holders);
    map_fragmentation();
    if (incident_.holders && options_.ownership) {
      pass("ownership", [&] {
        OwnershipOptions how;
        how.values = options_.values;
        incident_.ownership = find_ownership(process_, *incident_.holders, how, process_.findings);
      });
    }
    pass("diagnose", [&] { incident_.diagnoses = diagnose(process_, incident_, options_); });
    return std::move(incident_);
  }

 private:
  template <typename Work>
  void pass(std::string_view name, Work&& work) {
    progress_.begin(name, 0);
    timings_.time(name, work);
  }

  void count_memory() {
    Stock stock = take_stock(process_, incident_.census(), progress_, timings_);
    incident_.obmalloc = std::move(stock.obmalloc);
    incident_.ledger = std::move(stock.ledger);
    weigh_ledger(incident_);
  }

  void ask_holders(const Holders& holders) {
    const std::size_t limit = options_.limit;
    const bool values = options_.values;
    Findings& findings = process_.findings;
    pass("retained", [&] {
      incident_.retained = retained_answer(process_, holders, {kNoNode, limit, values}, findings);
    });
    pass("cycles", [&] { incident_.cycles = find_cycles(process_, holders, {limit, values, false}, findings); });
    pass("audit", [&] { incident_.audit = audit_counts(process_, holders.graph, limit); });
    pass("waste", [&] {
      WasteOptions how;
      how.limit = limit;
      how.values = values;
      incident_.waste = find_waste(process_, holders.graph, how, findings);
    });
    if (process_.heap() != nullptr) {
      pass("owners", [&] {
        incident_.malloc_owners = find_malloc_owners(process_, holders);
        incident_.native = find_native_blocks(process_, holders.graph, *incident_.malloc_owners, {limit, values});
        incident_.malloc_owners->owner_of.clear();
        incident_.malloc_owners->owner_of.shrink_to_fit();
      });
    }
    pass("unwind", [&] { incident_.threads = find_threads(process_, holders, values, findings); });
  }

  void map_fragmentation() {
    Findings reported_by_now;
    pass("map", [&] { incident_.map = map_memory(process_, progress_, reported_by_now); });
    if (!incident_.holders) return;
    pass("pins", [&] {
      PinsOptions how;
      how.limit = options_.limit;
      how.values = options_.values;
      incident_.pins = find_pins(process_, *incident_.holders, incident_.map, how, process_.findings);
    });
  }

  Process& process_;
  const IncidentOptions& options_;
  Progress& progress_;
  Timings& timings_;
  Incident incident_;
};

}  // namespace

Incident investigate(Process& process, const IncidentOptions& options, Progress& progress, Timings& timings) {
  return Passes(process, options, progress, timings).run();
}

}  // namespace heapcore

// Everything that the report says of a process, from one census: the stock of its memory, who holds it, and the
// diagnoses made of both.
#pragma once

#include <optional>
#include <vector>

#include "analysis/audit.h"
#include "analysis/cycles.h"
#include "analysis/diagnosis.h"
#include "analysis/fragmentation.h"
#include "analysis/holders.h"
#include "analysis/malloc_owners.h"
#include "analysis/native_blocks.h"
#include "analysis/ownership.h"
#include "analysis/pins.h"
#include "analysis/stock.h"
#include "analysis/threads.h"
#include "analysis/waste.h"

namespace heapcore {

struct Incident {
  std::optional<Holders> holders;       // nothing: no Python that could be read
  std::optional<ObmallocUse> obmalloc;  // or mimalloc
  Ledger ledger;
  RetainedAnswer retained;
  CyclesAnswer cycles;
  AuditAnswer audit;
  ThreadsAnswer threads;
  FragmentationMap map;                       // without allocators: none was found
  std::optional<PinsAnswer> pins;             // nothing: no Python that could be read
  std::optional<WasteAnswer> waste;           // likewise
  std::optional<MallocOwners> malloc_owners;  // likewise; or no glibc
  std::optional<NativeBlocks> native;         // likewise
  std::vector<OwnershipNode> ownership;       // only where it was asked for
  std::uint64_t explained_bytes = 0;  // of those mapped, the ones that the ledger says more of than whose they may be
  std::uint64_t not_dumped_bytes = 0;
  std::vector<Diagnosis> diagnoses;  // the most severe first, of one severity the largest

  // Null: no Python that could be read.
  const Census* census() const { return holders ? &holders->graph.census : nullptr; }
};

struct IncidentOptions {
  std::size_t limit = 20;  // of each list; 0 for no limit
  bool values = false;     // contents of strings may be shown
  bool ownership = false;  // the picture of who owns the heap
};

// All passes. Fills the arenas' totals of process.heap().
Incident investigate(Process& process, const IncidentOptions& options, Progress& progress, Timings& timings);

}  // namespace heapcore

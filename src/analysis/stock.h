// Taking stock: what both allocators hold, and every mapped byte by what it is.
#pragma once

#include <optional>

#include "analysis/census.h"
#include "analysis/ledger.h"
#include "analysis/process.h"
#include "pyobj/obmalloc.h"
#include "support/timings.h"

namespace heapcore {

struct Stock {
  std::optional<ObmallocUse> obmalloc;  // or mimalloc, whichever the build has; nothing: none found
  Ledger ledger;
};

// The passes "walk" and "summarise". Fills the arenas' totals of process.heap(). `census`: the process's; null where
// there is no Python that could be read.
Stock take_stock(Process& process, const Census* census, Progress& progress, Timings& timings);

}  // namespace heapcore

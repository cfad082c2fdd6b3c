// Taking stock: all that `report` and `ledger` say, from one pass over each kind of memory.
#pragma once

#include <optional>

#include "analysis/census.h"
#include "analysis/ledger.h"
#include "analysis/process.h"
#include "pyobj/obmalloc.h"
#include "support/timings.h"

namespace heapcore {

struct Stock {
  std::optional<Census> census;         // nothing: no Python that could be read
  std::optional<ObmallocUse> obmalloc;  // or mimalloc, whichever the build has; nothing: none found
  Ledger ledger;
};

// The passes "decode", "walk" and "summarise". Fills the arenas' totals of process.heap().
Stock take_stock(Process& process, Progress& progress, Timings& timings);

}  // namespace heapcore

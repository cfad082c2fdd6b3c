// Counts every chunk of a heap by state, and forecasts malloc_trim(0).
//
// Findings beyond those of the walk (chunks.h): bin-list-broken, bin-bad-entry, walk-list-disagree, region-unbalanced.
#pragma once

#include "coreparse/snapshot.h"
#include "glibc_heap/heap.h"
#include "support/finding.h"

namespace heapcore {

// Walks all regions, in parallel, and fills Arena::totals. The sum of what it filled in an arena (all states, overhead,
// lost) is that arena's system_bytes, or there is a finding.
void count_chunks(const Snapshot& snapshot, Heap& heap, Findings& findings);

// Walks the lists of every bin and compares with the totals that count_chunks() left.
// REQUIRES: count_chunks() was called.
void check_bins(const Snapshot& snapshot, const Heap& heap, Findings& findings);

}  // namespace heapcore

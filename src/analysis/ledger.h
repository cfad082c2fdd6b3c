// The ledger: every mapped byte labelled once. Its total equals the mapped bytes, always.
//
// Ranges that an allocator claims (obmalloc's arenas, malloc's regions, mmapped chunks) are split by what the walks
// counted in them; what is left of each mapping is labelled by what the mapping is. Where a claim reaches outside the
// mappings or into another claim, the target is damaged: the claim is dropped, with a finding, and its bytes are
// labelled as plain memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analysis/census.h"
#include "analysis/process.h"
#include "pyobj/obmalloc.h"

namespace heapcore {

// Of the objects in a row, those of one type.
struct LedgerType {
  std::string type;  // "dict", "module.name"
  std::uint64_t bytes = 0;
};

struct LedgerRow {
  std::string category;  // "python objects", "malloc free", "file" ...
  std::string detail;    // which part of it: a group of types and the memory they lie in, a file's path; may be empty
  std::uint64_t bytes = 0;
  std::uint64_t not_dumped_bytes = 0;  // of which the snapshot does not hold the contents
  std::vector<LedgerType> types;       // of a group of types the largest few
};

// How much of a live process is in memory: whole ranges, since only pages can be resident. An allocator's row is all
// that it holds, in use or free.
struct ResidentRow {
  std::string what;  // "obmalloc", "malloc", or a category of the ledger
  std::uint64_t mapped_bytes = 0;
  std::uint64_t resident_bytes = 0;
  std::uint64_t swapped_bytes = 0;
};

struct Ledger {
  std::vector<LedgerRow> rows;  // rows of a category stand together; largest first
  std::uint64_t mapped_bytes = 0;
  std::vector<ResidentRow> resident;  // largest first; empty of a core, which does not tell
  std::uint64_t rss_bytes = 0;        // as the kernel counts it (VmRSS), when the rows above were read
};

// `census` and `obmalloc` may be null: no Python, or none that could be read. Objects are told apart by groups of types
// if the census listed blocks.
// REQUIRES: count_chunks() was called on process.heap(), if there is one.
Ledger make_ledger(const Process& process, const Census* census, const ObmallocUse* obmalloc, Findings& findings);

}  // namespace heapcore

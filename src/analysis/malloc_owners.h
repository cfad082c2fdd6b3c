// Whose malloc's chunks in use are: Python objects themselves, what objects own (tables, items, buffers) by the type of
// their owner, what the interpreter, static data or a stack refers to, and what nobody was found to own.
#pragma once

#include <string>
#include <vector>

#include "analysis/holders.h"
#include "support/counts.h"

namespace heapcore {

struct MallocOwner {
  std::string owner;  // "Python objects", "dict", "the interpreter", "static data of libfoo.so" ...
  CountBytes chunks;  // whole chunks
};

struct MallocOwners {
  std::vector<MallocOwner> owners;  // by bytes, the largest first; without what is unowned
  CountBytes unowned;
  CountBytes total;  // chunks in use that are blocks: of the arenas and mmapped
};

// REQUIRES: process.heap() != nullptr and process.runtime() != nullptr.
MallocOwners find_malloc_owners(const Process& process, const Holders& holders);

}  // namespace heapcore

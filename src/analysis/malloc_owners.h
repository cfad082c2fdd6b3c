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

// Who leads to a raw block: an object of a type, the interpreter, a stack, or a module's static data.
struct RawOwner {
  std::string name;        // as in MallocOwner; empty for nobody
  bool is_native = false;  // no object and not the interpreter
};

struct MallocOwners {
  std::vector<MallocOwner> owners;  // by bytes, the largest first; without what is unowned
  CountBytes unowned;
  CountBytes total;  // chunks in use that are blocks: of the arenas and mmapped
  std::vector<RawOwner> raw_owners;
  // By raw block, from the first on: which of raw_owners; kNotAsked of what is no chunk.
  std::vector<std::uint32_t> owner_of;

  static constexpr std::uint32_t kNotAsked = ~std::uint32_t{0};
};

// REQUIRES: process.heap() != nullptr and process.runtime() != nullptr.
MallocOwners find_malloc_owners(const Process& process, const Holders& holders);

}  // namespace heapcore

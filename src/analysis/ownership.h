// Who owns the heap's bytes, as a picture has room for it: the dominator tree, with siblings of one type merged and
// what is small left out.
//
// What an object holds in blocks of its own (item arrays, tables, characters) counts as its own bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analysis/holders.h"

namespace heapcore {

struct OwnershipNode {
  std::uint32_t parent = 0;  // its place in the list; the first is its own
  std::string type;          // "module.name"; empty of the whole and of what is left out
  std::string edge;          // how the parent refers to it; of what nothing dominates, its path. Only of one object.
  Addr address = 0;          // of the object, or of the largest of them; 0 of the whole and of what is left out
  std::uint64_t count = 0;   // of objects that this stands for
  std::uint64_t bytes = 0;   // their own, the allocators'
  std::uint64_t retained_bytes = 0;
};

struct OwnershipOptions {
  std::uint64_t least_part = 1000;  // what retains less than the heap's bytes divided by this is left out
  std::size_t most_nodes = 3000;
  std::uint32_t most_levels = 32;
  bool values = false;  // keys of dicts may be shown
};

// The first is the whole; a parent stands before its children, and those of one parent together, the largest first.
// What is left out below a parent is one child without a type.
std::vector<OwnershipNode> find_ownership(const Process& process, const Holders& holders,
                                          const OwnershipOptions& options, Findings& findings);

}  // namespace heapcore

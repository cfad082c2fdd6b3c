// Does every object hold what it says of itself? For `verify`, which looks at what nothing else needs to trust.
#pragma once

#include <cstdint>

#include "analysis/block_table.h"
#include "analysis/census.h"
#include "analysis/process.h"

namespace heapcore {

// Of each object: its items lie in its block; its tables, lists and links hold as much as it says; the indices of a
// dict lead to its entries; what it refers to are objects; its neighbour on the collector's list knows it. Findings are
// at the object's address. `blocks` and `census` are of one sweep. Returns how many references were followed.
std::uint64_t check_objects(const Process& process, const Census& census, const BlockTable& blocks, Findings& findings);

}  // namespace heapcore

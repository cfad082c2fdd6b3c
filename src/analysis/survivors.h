// Which objects of an older snapshot are still there in a newer one of the same process.
//
// An object survived if both have one of the same type at its address, and nothing speaks against it. Against it speaks
// a value that cannot change and did; and of what can change, that none of the parts that it alone holds (strings,
// numbers, lists of its own) is the same in both. Where it has no such parts, or had none, it counts as a survivor. So
// an object all of whose own parts were replaced in between counts as a new one.
#pragma once

#include <vector>

#include "analysis/heap_graph.h"

namespace heapcore {

struct Survivors {
  std::vector<BlockId> newer_of;  // by object of the older: the same one in the newer; kNoBlock if it is gone
  std::vector<bool> survived;     // by object of the newer
};

// `blocks` and `types` are the older's. Types are the same if they are called the same.
Survivors find_survivors(const Process& older, const BlockTable& blocks, TypeTable& types, const Process& newer,
                         const HeapGraph& graph);

}  // namespace heapcore

// Which objects of an older snapshot are still there in a newer one of the same process.
//
// An object survived if both have one of the same type at its address, and nothing speaks against it. Against it speaks
// a value that cannot change and did; and of what can change, that none of the parts that it alone holds (strings,
// numbers, lists of its own) is the same in both. Where it has no such parts, or had none, it counts as a survivor. So
// an object all of whose own parts were replaced in between counts as a new one.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "analysis/heap_graph.h"

namespace heapcore {

// The types of both sides, which are the same if they are called the same, numbered alike.
struct CommonTypes {
  CommonTypes(const TypeTable& older, const TypeTable& newer);

  std::vector<std::pair<std::string, std::string>> names;  // module and name, by number
  std::vector<std::size_t> of_older;                       // the number, by TypeId
  std::vector<std::size_t> of_newer;
};

// The older snapshot: its blocks and what their types are.
struct OlderSide {
  const Process& process;
  const BlockTable& blocks;
  TypeTable& types;
  std::vector<TypeBrief> briefs;  // by TypeId
};

struct Survivors {
  std::vector<BlockId> newer_of;  // by object of the older: the same one in the newer; kNoBlock if it is gone
  std::vector<bool> survived;     // by object of the newer
};

Survivors find_survivors(const OlderSide& older, const Process& newer, const HeapGraph& graph,
                         const CommonTypes& types);

}  // namespace heapcore

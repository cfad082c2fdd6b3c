// What the cyclic collector would find unreachable if it ran now: found as it does it.
//
// Of each tracked object the references that other tracked objects visit are taken from its count. What has references
// left is held from outside, and so is all that it visits; the rest is garbage (Modules/gcmodule.c, Python/gc.c,
// Python/gc_free_threading.c). What gc.freeze() put aside the collector does not look at. In free-threaded builds, what
// each thread counts apart is added first, and what frames hold without counting it is no visit but a holder.
#pragma once

#include <cstdint>
#include <vector>

#include "analysis/heap_graph.h"

namespace heapcore {

struct Generation {
  std::uint64_t tracked = 0;  // objects on its list
  std::uint64_t garbage = 0;  // of which garbage
};

struct Garbage {
  std::vector<NodeId> objects;          // ascending
  std::vector<Generation> generations;  // empty where there are none, or a collection is in the middle
  std::uint64_t frozen = 0;             // tracked objects that were put aside
};

// REQUIRES: process.runtime() != nullptr.
Garbage uncollected_garbage(const Process& process, const HeapGraph& graph, Findings& findings);

}  // namespace heapcore

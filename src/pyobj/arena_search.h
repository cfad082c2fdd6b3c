// Where obmalloc's tables of arena_objects are in the target, by the way the version keeps them: static variables
// (to 3.11), in the interpreters' states (3.12), or behind pointers there (3.13+).
//
// Static variables are found by symbol, in the code of exported functions that read them, or by the shape of the table
// itself. What is found is verified before it is taken: the arenas' pools carry their arena's index.
#pragma once

#include "pyobj/runtime.h"

namespace heapcore {

// Fills runtime.arenas and runtime.more_arenas. REQUIRES: traits, module and interpreters are set.
void find_arena_tables(const Snapshot& snapshot, const Module& module, PyRuntime& runtime);

}  // namespace heapcore

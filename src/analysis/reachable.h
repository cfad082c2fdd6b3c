// Which objects can be reached: the closure, by the references that tp_traverse visits, of what the collector tracks.
// It is what a program gets that follows gc.get_referents() from gc.get_objects(); objects in the static data of the
// interpreter and of extension modules are among them.
#pragma once

#include "analysis/census.h"

namespace heapcore {

// A census of those objects alone; its `tracked` and block counts are empty. The passes "decode" and "link".
// REQUIRES: process.runtime() != nullptr.
Census take_census_of_reachable(const Process& process, Progress& progress, Findings& findings);

}  // namespace heapcore

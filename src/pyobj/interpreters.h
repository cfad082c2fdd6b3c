// A runtime's interpreters, and the collector's generations where those share them.
//
// Each is verified by its links before it is listed: its threads point back to it, the collector's rings in it close,
// and from 3.12 on it lists `type` among the static types whose state it keeps. What fails is a finding.
#pragma once

#include "pyobj/runtime.h"
#include "pyobj/runtime_search.h"

namespace heapcore {

// Fills runtime.interpreters and the shared collector's fields; and, where runtime.state is 0, that and located_by, by
// the list's structure. REQUIRES: runtime.traits and .type_type are set, and .state where a name tells it. False: no
// list of interpreters was found.
bool find_interpreters(const Snapshot& snapshot, RuntimeSearch& search, const Module& module, PyRuntime& runtime,
                       Findings& findings);

}  // namespace heapcore

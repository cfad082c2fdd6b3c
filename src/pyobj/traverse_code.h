// What the machine code of an interpreter's tp_traverse says, where distributions' backports make its version say
// nothing.
#pragma once

#include <optional>

#include "coreparse/snapshot.h"

namespace heapcore {

// Whether PyObject_VisitManagedDict looks for an instance's dict before its inline values (gh-130327). Nothing where
// the function or its code is not in the snapshot, or does neither.
std::optional<bool> visits_managed_dict_first(const Snapshot& snapshot, const Module& interpreter);

}  // namespace heapcore

// What an interpreter keeps of the static types for itself, from 3.12 on: their dicts, subclasses and weak references.
//
// Source: static_builtin_state (3.12) and managed_static_type_state (3.13+), Include/internal/pycore_typeobject.h.
#pragma once

#include <optional>

#include "coreparse/address_space.h"
#include "pyobj/runtime.h"

namespace heapcore {

struct StaticTypeState {
  Addr dict = 0;
  Addr subclasses = 0;
  Addr weaklist = 0;
};

// Nothing for a type that this interpreter keeps no state of, as all are before 3.12.
std::optional<StaticTypeState> static_type_state(Reader& reader, const PyLayout& layout, Addr interpreter, Addr type);

// The dict of a type: its own, or that which the main interpreter keeps for it; 0 if it has none.
Addr type_dict(Reader& reader, const PyRuntime& runtime, Addr type);

}  // namespace heapcore

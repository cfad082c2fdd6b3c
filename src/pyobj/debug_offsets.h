// What _PyRuntime of 3.13 and later says itself of where fields lie: _Py_DebugOffsets, with which it begins.
//
// It is a row of numbers whose order is the version's (Include/internal/pycore_debug_offsets.h); the layout tables say
// where each stands. What it carries is of the very build, so it is preferred to a table made from another; and it is
// memory of the target like any other, so it is believed only if the runtime verifies with it.
#pragma once

#include <string_view>
#include <vector>

#include "coreparse/address_space.h"
#include "pyobj/py_layout.h"

namespace heapcore {

// One field of which it says where it lies.
struct CarriedField {
  const char* structure = "";
  const char* field = "";
  Field& (*place)(PyLayout&) = nullptr;
  const Field& (*entry)(const PyLayout&) = nullptr;  // in _Py_DebugOffsets
};

// All that any version carries and that heapcore reads.
std::vector<CarriedField> carried_fields();

struct DebugOffsets {
  PyLayout layout{};                    // the one given, with what _Py_DebugOffsets says in place of its own
  std::vector<CarriedField> carried;    // what it says anything of
  std::vector<CarriedField> differing;  // of which it says something else than the layout given
};

// `runtime_state` is the address of _PyRuntime. Nothing is carried where the layout's version has no _Py_DebugOffsets,
// or none is there.
DebugOffsets read_debug_offsets(Reader& reader, const PyLayout& layout, Addr runtime_state);

}  // namespace heapcore

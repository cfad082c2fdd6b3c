// Where the layout that a runtime is read with comes from, field by field.
//
// In this order: DWARF of the exact build, proved by build-id, where it was asked for or no table verifies; the
// target's own _Py_DebugOffsets (3.13+), for what it carries; the table that verifies. All are verified alike: the
// first choice with which the runtime verifies is taken.
//
// Reading DWARF takes some tenths of a second and the pages of a file of 30 MB, so commands that only count leave it
// until a table fails.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "coreparse/address_space.h"
#include "coreparse/snapshot.h"
#include "pyobj/py_traits.h"

namespace heapcore {

enum class PyLayoutSource : std::uint8_t { kTablesFirst, kDebugFileFirst };

struct LayoutOrigin {
  std::shared_ptr<const PyLayout> own;    // the layout itself where it is no table's
  std::shared_ptr<const PyLayout> dwarf;  // what DWARF said, without what was filled in from a table; null: not used
  std::string build_id;                   // of the DWARF
  bool debug_offsets = false;             // _Py_DebugOffsets was read, and goes before the table
};

// A layout to try.
struct LayoutChoice {
  PyTraits traits;  // its layout is a table's, or origin.own
  LayoutOrigin origin;
};

// The tables' traits with what _Py_DebugOffsets at `runtime_state` (0: none) says put before them, each followed by the
// table as it is where that is another.
std::vector<LayoutChoice> table_choices(const PyVersion& version, Reader& reader, Addr runtime_state);

// The same version's traits with the layout of the module's DWARF; none without it.
std::vector<LayoutChoice> dwarf_choices(const PyVersion& version, const Module& module);

struct FieldOrigin {
  const char* structure = "";
  const char* field = "";
  Field place;
  Field in_table;      // of the table that traits name; not present where that has not got the structure
  std::string source;  // "table 3.13.5", "_Py_DebugOffsets", "DWARF of build-id ..."
};

// Every field that the version has, in fields.def's order.
std::vector<FieldOrigin> describe_layout(const PyTraits& traits, const LayoutOrigin& origin);

}  // namespace heapcore

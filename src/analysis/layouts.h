// Which layout a target was read with: for each field of each structure, where it lies and who says so.
#pragma once

#include <string>
#include <vector>

#include "analysis/process.h"

namespace heapcore {

struct LayoutRow {
  const char* library = "";  // "cpython", "glibc"
  const char* structure = "";
  const char* field = "";
  Field place;
  std::string source;    // "table 3.13.5", "_Py_DebugOffsets", "DWARF of build-id ..."
  bool differs = false;  // the table that is nearest has it elsewhere, or has not got it
  Field in_table;
};

// Of what was found in the process; fields that its version has not got are left out.
std::vector<LayoutRow> layout_rows(const Process& process);

}  // namespace heapcore

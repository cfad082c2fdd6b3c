// The census as a table: one row for each type, module or size class, sorted.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "analysis/census.h"

namespace heapcore {

enum class GroupBy : std::uint8_t { kType, kModule, kSize };
enum class SortBy : std::uint8_t { kBytes, kCount, kName };

struct TypeRow {
  Addr address = 0;             // of the type; 0 where the row is not one type
  std::string module;           // empty where unknown or of a size class
  std::string name;             // of the type; empty for a module's row
  std::uint64_t size_from = 0;  // of a size class: bytes of the smallest and the largest object it counts
  std::uint64_t size_to = 0;
  CountBytes total;
};

struct TypeRows {
  GroupBy by = GroupBy::kType;
  bool tracked_only = false;
  bool reachable_only = false;         // the census was one of those
  std::vector<TypeRow> rows;           // those with at least one object
  std::string python_allocator;        // Census::python_allocator
  CountBytes total;                    // of all rows, also of those that a limit or a name keeps from being shown
  std::optional<CountBytes> selected;  // of the rows that select_named() left
};

TypeRows type_rows(const Census& census, GroupBy by, SortBy sort, bool tracked_only);

// Does a type's "module.qualname" match one of these globs? Of builtins the name alone will do.
bool type_matches(const std::string& module, const std::string& name, const std::vector<std::string>& globs);

// Leaves the types that match.
// REQUIRES: rows.by is kType.
void select_named(TypeRows& rows, const std::vector<std::string>& globs);

}  // namespace heapcore

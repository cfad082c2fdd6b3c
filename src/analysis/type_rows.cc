#include "analysis/type_rows.h"

#include <fnmatch.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "pyobj/builtins_names.h"

namespace heapcore {
namespace {

std::vector<TypeRow> rows_by_type(const Census& census, bool tracked_only) {
  std::vector<TypeRow> rows;
  for (TypeId id = 0; id < census.by_type.size(); ++id) {
    const TypeInfo& info = census.types->info(id);
    const TypeTotals& totals = census.by_type[id];
    rows.push_back({info.address, info.module, info.name, 0, 0, tracked_only ? totals.tracked : totals.all});
  }
  return rows;
}

std::vector<TypeRow> rows_by_module(const Census& census, bool tracked_only) {
  std::map<std::string, TypeRow> by_module;
  for (const TypeRow& row : rows_by_type(census, tracked_only)) {
    TypeRow& module = by_module[row.module];
    module.module = row.module;
    module.total += row.total;
  }
  std::vector<TypeRow> rows;
  for (auto& [name, row] : by_module) rows.push_back(std::move(row));
  return rows;
}

std::vector<TypeRow> rows_by_size(const Census& census, bool tracked_only) {
  std::vector<TypeRow> rows;
  for (std::size_t i = 1; i < kSizeClasses; ++i) {
    TypeRow row;
    row.size_from = std::uint64_t{1} << (i - 1);
    row.size_to = row.size_from - 1 + row.size_from;
    row.total = tracked_only ? census.by_size[i].tracked : census.by_size[i].all;
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace

TypeRows type_rows(const Census& census, GroupBy by, SortBy sort, bool tracked_only) {
  TypeRows result;
  result.by = by;
  result.tracked_only = tracked_only;
  result.python_allocator = census.python_allocator;
  result.total = tracked_only ? census.tracked : census.total;
  switch (by) {
    case GroupBy::kType:
      result.rows = rows_by_type(census, tracked_only);
      break;
    case GroupBy::kModule:
      result.rows = rows_by_module(census, tracked_only);
      break;
    case GroupBy::kSize:
      result.rows = rows_by_size(census, tracked_only);
      break;
  }
  std::erase_if(result.rows, [](const TypeRow& row) { return row.total.count == 0; });
  // The name and the address settle ties, so that the order never depends on the sweep's threads.
  std::sort(result.rows.begin(), result.rows.end(), [&](const TypeRow& a, const TypeRow& b) {
    const auto names = [](const TypeRow& row) { return std::tie(row.size_from, row.module, row.name, row.address); };
    if (sort == SortBy::kBytes && a.total.bytes != b.total.bytes) return a.total.bytes > b.total.bytes;
    if (sort == SortBy::kCount && a.total.count != b.total.count) return a.total.count > b.total.count;
    return names(a) < names(b);
  });
  return result;
}

bool type_matches(const std::string& module, const std::string& name, const std::vector<std::string>& globs) {
  const auto matches = [&](const std::string& text) {
    return std::any_of(globs.begin(), globs.end(),
                       [&](const std::string& glob) { return ::fnmatch(glob.c_str(), text.c_str(), 0) == 0; });
  };
  const bool builtin = is_builtins(module);
  return matches(module + "." + name) || (builtin && matches(name));
}

void select_named(TypeRows& rows, const std::vector<std::string>& globs) {
  std::erase_if(rows.rows, [&](const TypeRow& row) { return !type_matches(row.module, row.name, globs); });
  CountBytes selected;
  for (const TypeRow& row : rows.rows) selected += row.total;
  rows.selected = selected;
}

}  // namespace heapcore

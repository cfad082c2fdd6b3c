#include "pyobj/py_traits.h"

#include <fmt/format.h>

#include <cstring>

namespace heapcore {
namespace {

const PyTable* table_named(const char* version) {
  for (const PyTable& table : py_tables()) {
    if (std::strcmp(table.version, version) == 0) return &table;
  }
  return nullptr;
}

// One row a minor version: which table holds for it, and how it behaves.
struct Row {
  unsigned major_version;
  unsigned minor_version;
  const char* table;
  PyTraits traits;
};

const Row kRows[] = {
    // 3.11.2 and 3.11.7 were compared field by field: one layout.
    {3, 11, "3.11.7",
     {.arena_bytes = 1 << 20,
      .pool_bytes = 16 << 10,
      .long_rep = LongRep::kObSize,
      .pre_header = PreHeader::kManagedDict,
      .gc_head = GcHead::kTwoWords,
      .int_counts_one_digit = true}},
};

const Row* row_for(const PyVersion& version) {
  for (const Row& row : kRows) {
    if (row.major_version == version.major_version() && row.minor_version == version.minor_version()) return &row;
  }
  return nullptr;
}

}  // namespace

std::string PyVersion::text() const {
  const unsigned patch = hex >> 8 & 0xff;
  std::string result = fmt::format("{}.{}", major_version(), minor_version());
  if (!patch_known) return result;
  result += fmt::format(".{}", patch);
  const unsigned level = hex >> 4 & 0xf;
  if (level != 0xf) result += fmt::format("{}{}", level == 0xa ? "a" : level == 0xb ? "b" : "rc", hex & 0xf);
  return result;
}

std::optional<PyTraits> traits_for(const PyVersion& version) {
  const Row* row = row_for(version);
  const PyTable* table = row == nullptr ? nullptr : table_named(row->table);
  if (table == nullptr) return std::nullopt;
  PyTraits traits = row->traits;
  traits.version = version;
  traits.layout = &table->layout;
  traits.layout_version = table->version;
  return traits;
}

std::vector<PyVersion> supported_versions() {
  std::vector<PyVersion> versions;
  for (const Row& row : kRows) versions.push_back({row.major_version << 24 | row.minor_version << 16 | 0xf0, false});
  return versions;
}

}  // namespace heapcore

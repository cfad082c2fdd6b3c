#include "glibc_heap/glibc_layout.h"

namespace heapcore {
namespace {

constexpr GlibcTable kTables[] = {
#include "glibc_heap/layouts/glibc_2_17.inc"
#include "glibc_heap/layouts/glibc_2_23.inc"
#include "glibc_heap/layouts/glibc_2_24.inc"
#include "glibc_heap/layouts/glibc_2_26.inc"
#include "glibc_heap/layouts/glibc_2_27.inc"
#include "glibc_heap/layouts/glibc_2_31.inc"
#include "glibc_heap/layouts/glibc_2_35.inc"
#include "glibc_heap/layouts/glibc_2_36.inc"
#include "glibc_heap/layouts/glibc_2_41.inc"
#include "glibc_heap/layouts/glibc_2_42.inc"
#include "glibc_heap/layouts/glibc_2_43.inc"
#include "glibc_heap/layouts/glibc_2_44.inc"
};

}  // namespace

std::span<const GlibcTable> glibc_tables() {
  return kTables;
}

const GlibcTable* glibc_table(std::string_view version) {
  for (const GlibcTable& table : kTables) {
    if (table.version == version) return &table;
  }
  return nullptr;
}

}  // namespace heapcore

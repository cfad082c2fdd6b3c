// What the blocks that hold objects take, by type and by the memory they lie in: from the lists of the census, so that
// its sweep counts no block twice. And types in the groups that the ledger speaks of.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "analysis/block_table.h"
#include "pyobj/types.h"

namespace heapcore {

struct TypeBlockBytes;

// A range that was swept, and as which of TypeBlockBytes its blocks count.
struct SweptMemory {
  AddrRange range;
  std::uint64_t TypeBlockBytes::*counts_as;
};

// By TypeId. Objects outside `memory` are left out. REQUIRES: `memory` is sorted by where the ranges start.
std::vector<TypeBlockBytes> sum_blocks(std::span<const BlockColumns> found, std::span<const SweptMemory> memory,
                                       std::size_t types);

enum class TypeGroup : std::uint8_t {
  kContainers,
  kStrings,
  kNumbers,
  kFunctions,
  kClasses,
  kInstances,
  kArrays,
  kOther,
};
inline constexpr std::size_t kTypeGroups = 8;

TypeGroup type_group(const TypeInfo& type);
// "containers", "instances of classes"
std::string_view type_group_name(TypeGroup group);

}  // namespace heapcore

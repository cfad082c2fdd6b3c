#include "analysis/type_blocks.h"

#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include <algorithm>

#include "analysis/census.h"

namespace heapcore {
namespace {

const SweptMemory* memory_at(std::span<const SweptMemory> memory, Addr address) {
  const auto after = std::upper_bound(memory.begin(), memory.end(), address,
                                      [](Addr a, const SweptMemory& entry) { return a < entry.range.start; });
  if (after == memory.begin() || !std::prev(after)->range.contains(address)) return nullptr;
  return &*std::prev(after);
}

}  // namespace

std::vector<TypeBlockBytes> sum_blocks(std::span<const BlockColumns> found, std::span<const SweptMemory> memory,
                                       std::size_t types) {
  using Sums = std::vector<TypeBlockBytes>;
  tbb::enumerable_thread_specific<Sums> sums([types] { return Sums(types); });
  const auto add_part = [&](const BlockColumns& columns, const Column<BlockColumns::Found>& part) {
    Sums& mine = sums.local();
    SweptMemory here{{0, 0}, nullptr};  // of the block before: most follow in the same range
    for (const BlockColumns::Found& block : part) {
      if (block.type == kNoType) continue;
      if (!here.range.contains(block.address)) {
        const SweptMemory* found_here = memory_at(memory, block.address);
        if (found_here == nullptr) continue;
        here = *found_here;
      }
      mine[block.type & ~BlockColumns::kTrackedBit].*here.counts_as += columns.bytes_of(block);
    }
  };
  tbb::parallel_for(std::size_t{0}, found.size(), [&](std::size_t i) {
    const std::vector<Column<BlockColumns::Found>>& parts = found[i].parts();
    tbb::parallel_for(std::size_t{0}, parts.size(), [&](std::size_t j) { add_part(found[i], parts[j]); });
  });
  Sums total(types);
  for (const Sums& part : sums) {
    for (std::size_t type = 0; type < types; ++type) {
      total[type].pools += part[type].pools;
      total[type].chunks += part[type].chunks;
      total[type].mmapped += part[type].mmapped;
    }
  }
  return total;
}

TypeGroup type_group(const TypeInfo& type) {
  // What a class statement made, whatever it descends from, counts as what its author calls it.
  const bool has_own_class = type.is_heap_type && type.kind_type != type.address;
  switch (type.kind) {
    case Kind::kType:
    case Kind::kModule:
    case Kind::kClassicClass:
      return TypeGroup::kClasses;
    case Kind::kInstance:
    case Kind::kClassicInstance:
    case Kind::kException:
      return TypeGroup::kInstances;
    case Kind::kUnknown:
      return TypeGroup::kOther;
    default:
      break;
  }
  if (has_own_class) return TypeGroup::kInstances;
  switch (type.kind) {
    case Kind::kTuple:
    case Kind::kList:
    case Kind::kSet:
    case Kind::kFrozenSet:
    case Kind::kDict:
    case Kind::kOrderedDict:
    case Kind::kDefaultDict:
    case Kind::kFrozenDict:
    case Kind::kStgDict:
    case Kind::kDictView:
    case Kind::kMappingProxy:
    case Kind::kDeque:
      return TypeGroup::kContainers;
    case Kind::kStr:
    case Kind::kUnicode:
    case Kind::kBytes:
    case Kind::kByteArray:
      return TypeGroup::kStrings;
    case Kind::kSmallInt:
    case Kind::kInt:
    case Kind::kBool:
    case Kind::kFloat:
    case Kind::kComplex:
      return TypeGroup::kNumbers;
    case Kind::kFunction:
    case Kind::kMethod:
    case Kind::kBuiltinFunction:
    case Kind::kMethodDescriptor:
    case Kind::kMemberDescriptor:
    case Kind::kGetSetDescriptor:
    case Kind::kWrapperDescriptor:
    case Kind::kMethodWrapper:
    case Kind::kCode:
    case Kind::kFrame:
    case Kind::kGenerator:
    case Kind::kCoroutine:
    case Kind::kAsyncGenerator:
    case Kind::kFuture:
    case Kind::kTask:
    case Kind::kCell:
    case Kind::kProperty:
    case Kind::kStaticMethod:
    case Kind::kClassMethod:
    case Kind::kTraceback:
    case Kind::kPartial:
    case Kind::kLruCache:
      return TypeGroup::kFunctions;
    case Kind::kMemoryView:
    case Kind::kManagedBuffer:
    case Kind::kNdarray:
    case Kind::kArray:
      return TypeGroup::kArrays;
    default:
      return TypeGroup::kOther;
  }
}

std::string_view type_group_name(TypeGroup group) {
  constexpr std::string_view kNames[kTypeGroups] = {
      "containers",           "strings and bytes",  "numbers",    "functions, code and frames", "classes and modules",
      "instances of classes", "arrays and buffers", "other types"};
  return kNames[static_cast<std::size_t>(group)];
}

}  // namespace heapcore

// The types of the target, each looked at once: is this address a type at all, what is it called, how are its instances
// laid out and measured.
//
// Shared by all threads of a sweep through TypeCache, which answers nearly all questions without locking. TypeIds
// depend on the order in which threads meet types; nothing that is printed may depend on them.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "coreparse/snapshot.h"
#include "pyobj/kinds.h"
#include "pyobj/runtime.h"
#include "pyobj/type_names.h"

namespace heapcore {

using TypeId = std::uint32_t;
inline constexpr TypeId kNoType = ~TypeId{0};

struct TypeInfo {
  Addr address = 0;
  std::string module;  // "builtins", "__main__"; "?" of a class that has none, or none that can be read
  std::string name;    // __qualname__; "<type at 0x...>", without a module, where the snapshot does not say
  bool named = true;   // the snapshot says
  bool is_heap_type = false;
  std::uint64_t flags = 0;  // tp_flags
  std::uint64_t basicsize = 0;
  std::uint64_t itemsize = 0;
  std::uint32_t header_bytes = 0;  // before the object: what there is of PyGC_Head and pre-header
  SizeRule size_rule = SizeRule::kFixed;
  Kind kind = Kind::kUnknown;
  Addr kind_type = 0;            // the type itself, or the base of it, that is listed in kinds.def; 0 if unknown
  const KindRow* row = nullptr;  // of kind_type

  bool has_gc() const { return (flags & tp_flag::kHaveGc) != 0; }
};

// What a sweep needs of a type for each object; 32 bytes, kept in the sweep's own cache.
struct TypeBrief {
  Addr address = 0;
  TypeId id = kNoType;  // kNoType: no type is there
  std::uint32_t header_bytes = 0;
  std::uint32_t basicsize = 0;
  std::uint32_t itemsize = 0;
  SizeRule size_rule = SizeRule::kFixed;
  // Instances are allocated with tp_basicsize and not a byte more: static types of fixed size outside the collector.
  bool fits_exactly = false;
};

class TypeTable {
 public:
  TypeTable(const Snapshot& snapshot, const PyRuntime& runtime);

  // Looks `address` up, deciding what it is if it was never asked for. Thread-safe.
  TypeBrief classify(Addr address);

  // REQUIRES: no thread is inside classify().
  const TypeInfo& info(TypeId id) const { return infos_[id]; }
  // The same, for any thread at any time. The reference stays valid.
  const TypeInfo& shared_info(TypeId id) {
    const std::lock_guard lock(mutex_);
    return infos_[id];
  }
  std::size_t size() const { return infos_.size(); }
  // How many types' names the snapshot does not hold.
  std::size_t unnamed() const;

 private:
  bool is_type(Reader& reader, Addr address, int depth);
  TypeInfo read(Reader& reader, Addr address);
  void read_name(Reader& reader, TypeInfo& info);
  std::optional<std::string> tp_name(Reader& reader, Addr address);
  std::optional<std::string> cut_name(Reader& reader, Addr type);
  std::optional<std::string> heap_qualname(Reader& reader, Addr type);
  std::optional<std::string> heap_module(Reader& reader, Addr type);
  bool has_base(Reader& reader, Addr type, std::string_view name);
  void identify(Reader& reader, TypeInfo& info);
  Kind kind_by_flags(const TypeInfo& info) const;

  const Snapshot& snapshot_;
  const PyRuntime& runtime_;
  const PyLayout& layout_;
  std::optional<StaticTypeNames> static_names_;  // made when first asked for: most snapshots hold tp_name's text
  std::mutex mutex_;
  std::unordered_map<Addr, TypeId> ids_;  // of types only; addresses that are none are not remembered here
  std::deque<TypeInfo> infos_;
};

// One thread's view of a TypeTable: a direct-mapped cache, of addresses that are no types too.
class TypeCache {
 public:
  explicit TypeCache(TypeTable& table) : table_(table), slots_(kSlots) {}

  const TypeBrief& lookup(Addr address) {
    TypeBrief& slot = slots_[(address >> 4) * 0x9e3779b97f4a7c15ULL >> (64 - kSlotBits)];
    if (slot.address != address) [[unlikely]]
      slot = table_.classify(address);
    return slot;
  }

 private:
  static constexpr unsigned kSlotBits = 12;
  static constexpr std::size_t kSlots = std::size_t{1} << kSlotBits;

  TypeTable& table_;
  std::vector<TypeBrief> slots_;
};

}  // namespace heapcore

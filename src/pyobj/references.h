// What an object refers to: exactly what its tp_traverse would visit, and what it holds besides.
//
// For each type a plan is made once: the words of the object that are references, and which walk its contents ask for.
// Plans come from kinds.def, where a simple struct is a few lines, from the slots that classes declare, and from the
// types' own offsets of __dict__. Containers, frames and the like have walks of their own. Of a struct that nobody
// describes every word is a candidate.
//
// Walks are bounded by the memory they read and by counts; damage is a finding and ends the walk of that object.
//
// Source: the tp_traverse of each type in CPython 2.7 to 3.15 (Objects/*.c, Modules/*.c).
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "coreparse/snapshot.h"
#include "pyobj/objects.h"
#include "pyobj/runtime.h"
#include "pyobj/types.h"
#include "support/finding.h"

namespace heapcore {

enum class RefKind : std::uint8_t {
  kVisited,       // tp_traverse visits it: gc.get_referents() returns it
  kOwned,         // an object that is held, but not visited
  kBuffer,        // a raw block that is held: its first byte's address
  kWeak,          // an object that is known, but not held
  kConservative,  // a word of a struct that nobody describes. The visitor must check that it is what it seems to be:
                  // exactly the address of an object, or of the first byte of a block
};

std::string_view ref_kind_name(RefKind kind);

// What an edge is called, in a form that costs nothing to make; edge_text() makes text of it.
enum class What : std::uint8_t {
  kField,      // `field`
  kAttribute,  // of an instance; a: the address of the word that holds its name, a str
  kSlot,       // of a class with __slots__; a: the address of its name, a C string
  kDictKey,    // a: the key
  kDictValue,  // a: the key
  kItem,       // a: the index; field: of which part of it, ".flat"
  kMember,     // of a set
  kLocal,      // of a frame; a: its code object, b: the index among locals, cells and free variables
  kStack,      // of a frame's evaluation stack; b: the index
  kWord,       // a: the offset in the struct
};

struct EdgeName {
  // In b: a reference of a frame's that its target's count does not count (3.14+: _PyStackRef, borrowed or deferred).
  static constexpr std::uint64_t kUncounted = std::uint64_t{1} << 63;

  What what = What::kField;
  const char* field = "";
  std::uint64_t a = 0;
  std::uint64_t b = 0;

  bool is_counted() const { return (b & kUncounted) == 0; }
  std::uint64_t index() const { return b & ~kUncounted; }
};

// Which str keys of a dict are shown. Names are identifiers, in dotted parts: what is none is data, whatever its dict.
enum class ShownKeys : std::uint8_t {
  kNone,
  kInterned,  // names that are interned, as those in source code are; but data may be, too
  kNames,     // the dict is a module's, a class's or an instance's
  kAll,
};

// ".func", ".name", "['key']", "[3]", "local x"; a str that is not shown reads "<str>". Keys that are ints are shown.
std::string edge_text(Reader& reader, const PyTraits& traits, const EdgeName& name, ShownKeys shown);

// Which references the objects of a type have.
struct ReferencePlan {
  struct Pointer {
    std::uint32_t offset = 0;
    RefKind kind = RefKind::kVisited;
    What what = What::kField;
    const char* field = "";
    Addr name = 0;  // EdgeName::a
  };
  struct Words {  // described by nobody
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
  };
  enum class Walk : std::uint8_t { kNone, kList, kTuple, kDict, kSet, kOther };
  enum class Values : std::uint8_t {
    kNone,
    kPointer,        // 3.11: a pointer before the object
    kTaggedPointer,  // 3.12: the same, or the dict
    kInline,         // 3.13+: in the object, behind its fixed part
  };

  std::vector<Pointer> pointers;  // ascending
  std::vector<Words> words;
  bool has_type = false;  // instances hold their type
  RefKind type_kind = RefKind::kOwned;
  RefKind inner = RefKind::kOwned;  // of what tp_traverse visits: kVisited if the type is the collector's
  bool has_more = false;            // words, or dict_offset
  Walk walk = Walk::kNone;
  Kind kind = Kind::kUnknown;
  StructId struct_id = StructId::kPyObject;  // of the nearest base in kinds.def
  Values values = Values::kNone;
  Addr names = 0;  // of instances' values: the first word of the shared keys' entries that holds a name
  std::uint32_t name_stride = 0;
  std::uint32_t value_count = 0;
  std::int32_t dict_offset = 0;    // negative: from the end of a var-sized object, as tp_dictoffset
  bool has_managed_dict = false;   // a word before the object
  std::uint32_t items_offset = 0;  // of the inline items of a var-sized struct; 0: none
  std::uint32_t hidden_items = 0;  // a structseq's: beyond ob_size
  RefKind hidden_kind = RefKind::kOwned;
  std::uint32_t basicsize = 0;
  std::uint32_t itemsize = 0;
};

// One for each thread.
class ReferenceReader {
 public:
  ReferenceReader(const Snapshot& snapshot, const PyRuntime& runtime, TypeTable& types);
  ~ReferenceReader();

  // Calls visit(Addr target, RefKind, const EdgeName&) for each reference of the object. A target is never 0, but where
  // memory is damaged it may be no object. The same target comes as often as it is referred to. `end`: of the
  // block that the object lies in, where the caller knows it; items that are said to lie behind it are no items.
  template <typename Visit>
  void for_each(const ObjectView& object, Visit&& visit, Addr end = ~Addr{0}) {
    const ReferencePlan& plan = plan_of(object.type.id);
    const std::span<const std::byte> bytes = objects_.span_to_end(object.address);
    for (const ReferencePlan::Pointer& pointer : plan.pointers) {
      if (pointer.offset + kWordBytes > bytes.size()) break;
      const Addr target = word(bytes, pointer.offset);
      if (target != 0) visit(target, pointer.kind, EdgeName{pointer.what, pointer.field, pointer.name});
    }
    if (plan.has_type) visit(object.type.address, plan.type_kind, EdgeName{What::kField, "__class__"});
    if (plan.has_managed_dict) visit_values(object, plan, bytes, visit);
    if (plan.has_more) visit_more(object, plan, bytes, Sink(visit));
    switch (plan.walk) {
      case ReferencePlan::Walk::kNone:
        return;
      case ReferencePlan::Walk::kList:
        return visit_list(object, plan, bytes, visit);
      case ReferencePlan::Walk::kTuple:
        return visit_tuple(object, plan, bytes, end, visit);
      case ReferencePlan::Walk::kDict:
        return visit_dict(object, plan, bytes, visit);
      case ReferencePlan::Walk::kSet:
        return visit_set(object, plan, bytes, visit);
      case ReferencePlan::Walk::kOther:
        return visit_other(object, plan, bytes, Sink(visit));
    }
  }

  // What a _PyInterpreterFrame (3.11+) refers to: its locals, its evaluation stack, its code. Of one that is running,
  // the stack is not known.
  template <typename Visit>
  void for_each_in_frame(Addr frame, Visit&& visit) {
    visit_frame(frame, RefKind::kVisited, Sink(visit));
  }

  // Damage met so far.
  const Findings& findings() const { return findings_; }

 private:
  static constexpr std::uint64_t kWordBytes = 8;
  // More of anything in a chain is damage.
  static constexpr std::uint64_t kMaxChain = std::uint64_t{1} << 32;

  // A visitor whose type is gone, for walks that are not made in the header.
  class Sink {
   public:
    template <typename Visit>
    explicit Sink(Visit& visit)
        : visit_(const_cast<void*>(static_cast<const void*>(&visit))),
          call_([](void* to, Addr target, RefKind kind, const EdgeName& name) {
            (*static_cast<Visit*>(to))(target, kind, name);
          }) {}
    void operator()(Addr target, RefKind kind, const EdgeName& name) const {
      if (target != 0) call_(visit_, target, kind, name);
    }

   private:
    void* visit_;
    void (*call_)(void*, Addr, RefKind, const EdgeName&);
  };

  // Where the entries or values of a dict lie.
  struct DictTable {
    std::span<const std::byte> entries;
    std::span<const std::byte> values;  // of a split table; else in the entries
    std::uint64_t count = 0;
    std::uint32_t stride = 0;
    std::uint32_t key_offset = 0;
    std::uint32_t value_offset = 0;
    bool visits_keys = false;
    bool holds_keys = true;     // false: they are the class's
    bool visits_values = true;  // false: they are an instance's own, which visits them itself
  };

  static std::uint64_t word(std::span<const std::byte> bytes, std::size_t offset) {
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
  }
  // The same, or 0 if the field is not there.
  static std::uint64_t field(std::span<const std::byte> bytes, const Field& at) {
    std::uint64_t value = 0;
    const std::size_t width = at.width_bytes < kWordBytes ? at.width_bytes : kWordBytes;
    if (at.present() && at.offset + width <= bytes.size()) std::memcpy(&value, bytes.data() + at.offset, width);
    return value;
  }

  const ReferencePlan& plan_of(TypeId id) {
    if (id < plans_.size() && plans_[id] != nullptr) [[likely]]
      return *plans_[id];
    return make_plan(id);
  }
  const ReferencePlan& make_plan(TypeId id);
  void find_general_lookup();
  void damaged(Addr object, const char* what);

  // `count` words at `at`; fewer, and a finding, if not all are there.
  std::span<const std::byte> words_at(Addr object, Addr at, std::uint64_t count) {
    if (count > kMaxChain) count = kMaxChain;
    const std::span<const std::byte> bytes = elsewhere_.span(at, count * kWordBytes);
    if (bytes.empty() && count != 0) [[unlikely]]
      return partial_words(object, at, count);
    return bytes;
  }
  std::span<const std::byte> partial_words(Addr object, Addr at, std::uint64_t count);

  template <typename Visit>
  static void visit_items(std::span<const std::byte> items, RefKind kind, Visit& visit) {
    for (std::size_t i = 0; i < items.size() / kWordBytes; ++i) {
      const Addr target = word(items, i * kWordBytes);
      if (target != 0) visit(target, kind, EdgeName{What::kItem, "", i});
    }
  }

  template <typename Visit>
  void visit_list(const ObjectView& object, const ReferencePlan& plan, std::span<const std::byte> bytes, Visit& visit) {
    const Addr items = field(bytes, layout_.PyListObject.ob_item);
    const std::uint64_t allocated = field(bytes, layout_.PyListObject.allocated);
    std::uint64_t count = field(bytes, layout_.PyVarObject.ob_size);
    if (items == 0) return;
    if (count > allocated) [[unlikely]] {
      damaged(object.address, "a list is longer than its array of items; those that are in it are followed");
      count = allocated;
    }
    visit(items, RefKind::kBuffer, EdgeName{What::kField, "ob_item"});
    visit_items(words_at(object.address, items, count), plan.inner, visit);
  }

  template <typename Visit>
  void visit_tuple(const ObjectView& object, const ReferencePlan& plan, std::span<const std::byte> bytes, Addr end,
                   Visit& visit) {
    if (bytes.size() > end - object.address) bytes = bytes.first(end - object.address);
    std::uint64_t count = field(bytes, layout_.PyVarObject.ob_size) + plan.hidden_items;
    if (plan.items_offset > bytes.size()) return;
    std::span<const std::byte> items = bytes.subspan(plan.items_offset);
    if (count > items.size() / kWordBytes) [[unlikely]] {
      damaged(object.address, "an object's items reach beyond its block; those that are in it are followed");
      count = items.size() / kWordBytes;
    }
    items = items.first(count * kWordBytes);
    const std::size_t shown = items.size() - std::min<std::size_t>(items.size(), plan.hidden_items * kWordBytes);
    visit_items(items.first(shown), plan.inner, visit);
    if (shown != items.size()) visit_items(items.subspan(shown), plan.hidden_kind, visit);
  }

  bool dict_table(const ObjectView& object, std::span<const std::byte> bytes, DictTable& table);
  void visit_dict_buffers(const ObjectView& object, std::span<const std::byte> bytes, const Sink& visit);
  void visit_more_of_dict(const ObjectView& object, const ReferencePlan& plan, std::span<const std::byte> bytes,
                          const Sink& visit);

  template <typename Visit>
  void visit_dict(const ObjectView& object, const ReferencePlan& plan, std::span<const std::byte> bytes, Visit& visit) {
    DictTable table;
    if (!dict_table(object, bytes, table)) return;
    const RefKind key_kind = table.visits_keys ? plan.inner : RefKind::kOwned;
    const bool split = !table.values.empty();
    std::uint64_t used = 0;
    for (std::uint64_t i = 0; i < table.count; ++i) {
      const std::uint64_t at = i * table.stride;
      const Addr key = word(table.entries, at + table.key_offset);
      const Addr value = split ? word(table.values, i * kWordBytes) : word(table.entries, at + table.value_offset);
      if (value == 0) continue;
      ++used;
      if (table.visits_values) visit(value, plan.inner, EdgeName{What::kDictValue, "", key});
      if (key != 0 && table.holds_keys) visit(key, key_kind, EdgeName{What::kDictKey, "", key});
    }
    if (used != field(bytes, layout_.PyDictObject.ma_used)) [[unlikely]]
      damaged(object.address, "a dict does not hold as many values as it says");
    visit_dict_buffers(object, bytes, Sink(visit));
    if (plan.kind != Kind::kDict) visit_more_of_dict(object, plan, bytes, Sink(visit));
  }

  // The place of a key that is gone holds a dummy: in 3.x with the hash -1, which no key has; in 2.7 it is a str with a
  // hash of its own, which the table counts.
  bool is_set_dummy(Addr key, std::uint64_t hash);
  template <typename Visit>
  void visit_set(const ObjectView& object, const ReferencePlan& plan, std::span<const std::byte> bytes, Visit& visit) {
    const auto& fields = layout_.PySetObject;
    const Addr table = field(bytes, fields.table);
    const std::uint64_t mask = field(bytes, fields.mask);
    if (table == 0 || mask >= kMaxChain || (mask & (mask + 1)) != 0) [[unlikely]]
      return damaged(object.address, "a set's table is damaged; its members are not followed");
    const std::uint64_t stride = layout_.setentry.size_bytes;
    if (table != object.address + fields.smalltable.offset)
      visit(table, RefKind::kBuffer, EdgeName{What::kField, "table"});
    const std::span<const std::byte> entries = words_at(object.address, table, (mask + 1) * stride / kWordBytes);
    std::uint64_t used = 0;
    for (std::size_t at = 0; at + stride <= entries.size(); at += stride) {
      const Addr key = word(entries, at + layout_.setentry.key.offset);
      if (key == 0) continue;
      if (is_set_dummy(key, word(entries, at + layout_.setentry.hash.offset))) {
        if (traits_.str_rep == StrRep::kTwoTypes) visit(key, RefKind::kOwned, EdgeName{What::kField, "deleted key"});
        continue;
      }
      ++used;
      visit(key, plan.inner, EdgeName{What::kMember});
    }
    if (used != field(bytes, fields.used)) [[unlikely]]
      damaged(object.address, "a set does not hold as many members as it says");
  }

  // An instance's attributes that are not in a dict, and its managed dict.
  std::span<const std::byte> instance_values(const ObjectView& object, const ReferencePlan& plan,
                                             std::span<const std::byte> bytes, const Sink& visit);
  template <typename Visit>
  void visit_values(const ObjectView& object, const ReferencePlan& plan, std::span<const std::byte> bytes,
                    Visit& visit) {
    const std::span<const std::byte> values = instance_values(object, plan, bytes, Sink(visit));
    for (std::size_t i = 0; i < values.size() / kWordBytes; ++i) {
      const Addr target = word(values, i * kWordBytes);
      if (target != 0) visit(target, plan.inner, EdgeName{What::kAttribute, "", plan.names + i * plan.name_stride});
    }
  }

  void visit_more(const ObjectView& object, const ReferencePlan& plan, std::span<const std::byte> bytes,
                  const Sink& visit);
  void visit_other(const ObjectView& object, const ReferencePlan& plan, std::span<const std::byte> bytes,
                   const Sink& visit);
  using Bytes = std::span<const std::byte>;
  void visit_dict27(const ObjectView& object, const ReferencePlan& plan, Bytes bytes, const Sink& visit);
  void visit_ordered_dict(const ObjectView& object, const ReferencePlan& plan, Bytes bytes, const Sink& visit);
  void visit_deque(const ObjectView& object, const ReferencePlan& plan, Bytes bytes, const Sink& visit);
  void visit_str(const ObjectView& object, Bytes bytes, const Sink& visit);
  void visit_ndarray(const ObjectView& object, Bytes bytes, const Sink& visit);
  bool is_capsule(Addr object);
  void visit_lru_cache(const ObjectView& object, const ReferencePlan& plan, Bytes bytes, const Sink& visit);
  void visit_element(const ObjectView& object, const ReferencePlan& plan, Bytes bytes, const Sink& visit);
  void visit_by_struct(const ObjectView& object, const ReferencePlan& plan, Bytes bytes, const Sink& visit);
  void visit_type(const ObjectView& object, const ReferencePlan& plan, Bytes bytes, const Sink& visit);
  void visit_static_type(const ObjectView& object, Bytes bytes, const Sink& visit);
  void visit_cached_keys(Addr keys_at, const Sink& visit);
  void visit_module(const ObjectView& object, Bytes bytes, const Sink& visit);
  bool is_atexit(Bytes module, std::uint64_t state_bytes);
  void visit_exit_callbacks(const ObjectView& object, Addr state, const Sink& visit);
  void visit_code(const ObjectView& object, const ReferencePlan& plan, Bytes bytes, const Sink& visit);
  void visit_frame_object(const ObjectView& object, const ReferencePlan& plan, Bytes bytes, const Sink& visit);
  void visit_old_frame(const ObjectView& object, const ReferencePlan& plan, Bytes bytes, const Sink& visit);
  void visit_generator(const ObjectView& object, const ReferencePlan& plan, Bytes bytes, const Sink& visit);
  void visit_words(Bytes bytes, std::uint64_t begin, std::uint64_t end, const Sink& visit);
  void visit_frame(Addr frame, RefKind kind, const Sink& visit);
  std::uint64_t tuple_length(Addr tuple);

  const Snapshot& snapshot_;
  const PyRuntime& runtime_;
  const PyTraits& traits_;
  const PyLayout& layout_;
  TypeTable& types_;
  Reader objects_;                                     // in the objects themselves
  Reader elsewhere_;                                   // in what they point to
  std::vector<std::unique_ptr<ReferencePlan>> plans_;  // by TypeId
  std::uint64_t general_lookup_ = 0;                   // dk_lookup of tables with keys of any type (to 3.10)
  Addr capsule_type_ = 0;                              // PyCapsule_Type, once met
  Findings findings_;
};

}  // namespace heapcore

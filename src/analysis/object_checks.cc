#include "analysis/object_checks.h"

#include <fmt/format.h>
#include <tbb/blocked_range.h>
#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include "pyobj/containers.h"
#include "pyobj/objects.h"
#include "pyobj/references.h"

namespace heapcore {
namespace {

constexpr BlockId kGrain = 4096;

// For one thread.
class Checker {
 public:
  Checker(const Process& process, const Census& census, const BlockTable& blocks)
      : traits_(process.runtime()->traits),
        layout_(*traits_.layout),
        types_(*census.types),
        blocks_(blocks),
        collecting_(!census.rings_whole),
        objects_(process.snapshot, traits_, types_),
        references_(process.snapshot, *process.runtime(), types_),
        containers_(objects_.reader(), traits_, 0) {}

  void check(BlockId id) {
    ObjectView object;
    if (!objects_.at(blocks_.address(id), object)) return;
    const Addr end = blocks_.end_of(object);
    check_size(object, end);
    check_buffer(object);
    check_references(object, end);
    check_indices(object);
    check_links(object);
  }

  std::uint64_t followed() const { return followed_; }
  void report(Findings& findings) const {
    findings.merge(references_.findings());
    findings.merge(findings_);
  }

 private:
  void damaged(std::string_view code, Addr address, std::string detail) {
    findings_.add({code, Room::kAnalysis, address, std::move(detail)});
  }

  // Of what lies in its block as a whole.
  void check_size(const ObjectView& object, Addr end) {
    const SizeRule rule = object.type.size_rule;
    if (rule != SizeRule::kVar && rule != SizeRule::kInt && rule != SizeRule::kStr && rule != SizeRule::kByteStr)
      return;
    const std::span<const std::byte> bytes = objects_.reader().span_to_end(object.address);
    const std::uint64_t size = objects_.size_of(object, bytes) - object.type.header_bytes;
    std::int64_t length = 0;
    const Field& field = rule == SizeRule::kStr ? layout_.PyASCIIObject.length : layout_.PyVarObject.ob_size;
    const bool may_be_negative = rule == SizeRule::kInt || object.type.itemsize == 0;
    if (rule == SizeRule::kStr || !may_be_negative) objects_.reader().try_load(object.address + field.offset, length);
    if (length >= 0 && (size <= end - object.address || (rule == SizeRule::kStr && has_parts_elsewhere(object))))
      return;
    damaged("object-size-damaged", object.address,
            fmt::format("by its length an object has {} bytes, of which its block has room for {}", size,
                        end - object.address));
  }

  // Of what keeps its items in a block of their own.
  void check_buffer(const ObjectView& object) {
    const std::uint64_t length = word(object, layout_.PyVarObject.ob_size);
    switch (object.type.size_rule) {
      case SizeRule::kList:
        return check_array(object, layout_.PyListObject.ob_item, word(object, layout_.PyListObject.allocated), 8);
      case SizeRule::kByteArray:
        if (length > word(object, layout_.PyByteArrayObject.ob_alloc)) return report_length(object);
        return check_array(object, layout_.PyByteArrayObject.ob_bytes, word(object, layout_.PyByteArrayObject.ob_alloc),
                           1);
      case SizeRule::kArray:
        if (length > word(object, layout_.arrayobject.allocated)) report_length(object);
        return;
      case SizeRule::kWideStr:
        return check_array(object, layout_.PyUnicodeObject.str, word(object, layout_.PyUnicodeObject.length),
                           static_cast<std::uint64_t>(traits_.unicode_unit_bytes));
      default:
        return;
    }
  }

  void check_array(const ObjectView& object, const Field& pointer, std::uint64_t count, std::uint64_t item_bytes) {
    if (!pointer.present()) return;
    const BlockId id = blocks_.find(word(object, pointer));
    if (id == kNoBlock || blocks_.is_object(id)) return;
    if (count > blocks_.bytes(id) / item_bytes) report_length(object);
  }

  void report_length(const ObjectView& object) {
    damaged("object-size-damaged", object.address, "an object is longer than what holds its items");
  }

  std::uint64_t word(const ObjectView& object, const Field& field) {
    std::uint64_t value = 0;
    if (field.present()) objects_.reader().try_load(object.address + field.offset, value);
    return value;
  }

  // Characters in a buffer of their own, or other forms of the same text.
  bool has_parts_elsewhere(const ObjectView& str) {
    bool found = false;
    references_.for_each(str, [&](Addr, RefKind kind, const EdgeName&) { found = found || kind == RefKind::kBuffer; });
    return found;
  }

  void check_references(const ObjectView& object, Addr end) {
    Addr astray = 0;
    references_.for_each(
        object,
        [&](Addr target, RefKind kind, const EdgeName&) {
          ++followed_;
          if ((kind == RefKind::kVisited || kind == RefKind::kOwned) && !is_object(target)) astray = target;
        },
        end);
    if (astray != 0 && !is_kept_for_calls(object)) {
      damaged("reference-to-no-object", object.address, fmt::format("it refers to {:#x}, where no object is", astray));
    }
  }

  // C code of 3.6 keeps a tuple of one item for its next call, and in it what it was last called with, which it does
  // not hold (property_descr_get, Objects/descrobject.c).
  bool is_kept_for_calls(const ObjectView& object) {
    std::uint64_t length = 0;
    objects_.reader().try_load(object.address + layout_.PyVarObject.ob_size.offset, length);
    return !object.tracked && length == 1 && types_.shared_info(object.type.id).kind == Kind::kTuple;
  }

  bool is_object(Addr target) {
    if (blocks_.find_object(target) != kNoBlock) return true;
    ObjectView object;
    return objects_.at(target, object) || objects_.reader().space().state(target) == ByteState::kNotDumped;
  }

  void check_indices(const ObjectView& object) {
    const Field& field = layout_.PyDictObject.ma_keys;
    if (!field.present() ||
        (object.type.size_rule != SizeRule::kDict && object.type.size_rule != SizeRule::kOrderedDict))
      return;
    Addr keys = 0;
    objects_.reader().try_load(object.address + field.offset, keys);
    if (!containers_.indices_are_sound(keys))
      damaged("dict-indices-damaged", object.address, "the indices of a dict do not lead to its entries");
  }

  // That the next object on the list knows this one; what this one says of the next, the sweep has seen to.
  void check_links(const ObjectView& object) {
    if (!object.tracked || collecting_ || traits_.gc_head == GcHead::kNone) return;
    const Addr node = object.address - traits_.gc_head_bytes();
    Addr back = 0;
    if (!objects_.reader().try_load(object.gc_next + layout_.PyGC_Head._gc_prev.offset, back)) return;
    if (align_down(back, 4) == node) return;
    damaged(
        "gc-list-broken", object.gc_next,
        fmt::format("on a list of the collector {:#x} comes before it, but it says {:#x}", node, align_down(back, 4)));
  }

  const PyTraits& traits_;
  const PyLayout& layout_;
  TypeTable& types_;
  const BlockTable& blocks_;
  bool collecting_;  // or what the lists say is known to be damaged
  ObjectReader objects_;
  ReferenceReader references_;
  ContainerReader containers_;
  std::uint64_t followed_ = 0;
  Findings findings_;
};

}  // namespace

std::uint64_t check_objects(const Process& process, const Census& census, const BlockTable& blocks,
                            Findings& findings) {
  tbb::enumerable_thread_specific<Checker> checkers([&] { return Checker(process, census, blocks); });
  tbb::parallel_for(tbb::blocked_range<BlockId>(0, blocks.objects(), kGrain), [&](const auto& range) {
    Checker& checker = checkers.local();
    for (BlockId id = range.begin(); id != range.end(); ++id) checker.check(id);
  });
  std::uint64_t followed = 0;
  for (const Checker& checker : checkers) {
    checker.report(findings);
    followed += checker.followed();
  }
  return followed;
}

}  // namespace heapcore

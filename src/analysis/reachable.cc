#include "analysis/reachable.h"

#include <bit>
#include <unordered_set>
#include <vector>

#include "analysis/block_table.h"
#include "pyobj/gc_lists.h"
#include "pyobj/objects.h"
#include "pyobj/references.h"

namespace heapcore {
namespace {

class Closure {
 public:
  Closure(const Process& process, const Census& census, const BlockTable& blocks)
      : runtime_(*process.runtime()),
        mapped_bytes_(process.snapshot.mapped_bytes()),
        types_(*census.types),
        blocks_(blocks),
        seen_(blocks.objects()),
        objects_(process.snapshot, process.runtime()->traits, *census.types),
        references_(process.snapshot, *process.runtime(), *census.types) {}

  void run() {
    const std::unordered_set<Addr> frozen = permanent_objects();
    for (BlockId id = 0; id < blocks_.objects(); ++id) {
      ObjectView object;
      if (objects_.at(blocks_.address(id), object) && object.tracked && !frozen.contains(object.address))
        meet(object.address);
    }
    const auto follow = [this](Addr target, RefKind kind, const EdgeName&) {
      if (kind == RefKind::kVisited) meet(target);
      if (kind == RefKind::kConservative && traverses_ && is_followed(target)) meet(target);
    };
    while (!waiting_.empty()) {
      const Addr address = waiting_.back();
      waiting_.pop_back();
      ObjectView object;
      if (!objects_.at(address, object)) continue;
      count(object);
      const TypeInfo& type = types_.shared_info(object.type.id);
      of_module_ = type.kind == Kind::kModule;
      traverses_ = type.has_gc();
      references_.for_each(object, follow);
    }
  }

  std::vector<TypeTotals> by_type;
  std::array<TypeTotals, kSizeClasses> by_size;
  // Call once, after run().
  void report(Findings& findings) const {
    findings.merge(findings_);
    findings.merge(references_.findings());
  }

 private:
  // What gc.freeze() put aside, and in 3.12 what is immortal: gc.get_objects() does not return it.
  std::unordered_set<Addr> permanent_objects() {
    std::unordered_set<Addr> found;
    const PyTraits& traits = runtime_.traits;
    for (const GcListHead& head : gc_list_heads(runtime_)) {
      if (!head.permanent) continue;
      walk_gc_list(objects_.reader(), traits, head.address, blocks_.objects() + std::uint64_t{1}, findings_,
                   [&](Addr node) { found.insert(node + traits.gc_head_bytes()); });
    }
    return found;
  }

  void meet(Addr address) {
    const BlockId id = blocks_.find_object(address);
    if (id != kNoBlock) {
      if (seen_[id]) return;
      seen_[id] = true;
    } else if (!elsewhere_.insert(address).second) {
      return;
    }
    waiting_.push_back(address);
  }

  // Of structs that nobody describes, tp_traverse mostly visits each object; of what a module keeps for its C code only
  // those that may be part of a cycle.
  bool is_followed(Addr address) {
    ObjectView object;
    return blocks_.find_object(address) != kNoBlock && objects_.at(address, object) &&
           (!of_module_ || types_.shared_info(object.type.id).has_gc());
  }

  void count(const ObjectView& object) {
    const std::span<const std::byte> bytes = objects_.reader().span_to_end(object.address);
    std::uint64_t size = objects_.size_of(object, bytes);
    if (size > mapped_bytes_) size = object.type.basicsize;  // the census has a finding of it
    if (object.type.id >= by_type.size()) by_type.resize(object.type.id + 1);
    by_type[object.type.id].all.add(size);
    by_size[static_cast<std::size_t>(std::bit_width(size))].all.add(size);
  }

  const PyRuntime& runtime_;
  std::uint64_t mapped_bytes_;
  TypeTable& types_;
  bool of_module_ = false;  // what is followed is a module's
  bool traverses_ = false;  // it is of a type that has tp_traverse
  const BlockTable& blocks_;
  std::vector<bool> seen_;
  std::unordered_set<Addr> elsewhere_;  // not in swept memory: static objects
  std::vector<Addr> waiting_;
  ObjectReader objects_;
  ReferenceReader references_;
  Findings findings_;
};

}  // namespace

Census take_census_of_reachable(const Process& process, Progress& progress, Findings& findings) {
  BlockTable blocks;
  Census census = take_census(process, progress, findings, &blocks);
  Closure closure(process, census, blocks);
  closure.run();
  closure.report(findings);
  Census reached;
  reached.types = std::move(census.types);
  reached.by_type = std::move(closure.by_type);
  reached.by_type.resize(reached.types->size());
  reached.by_size = closure.by_size;
  for (const TypeTotals& totals : reached.by_type) reached.total += totals.all;
  return reached;
}

}  // namespace heapcore

#include "analysis/closure.h"

namespace heapcore {

Closure::Closure(const Process& process, TypeTable& types, const BlockTable& blocks, Follows follows)
    : follows_(follows),
      mapped_bytes_(process.snapshot.mapped_bytes()),
      types_(types),
      blocks_(blocks),
      seen_(blocks.objects()),
      objects_(process.snapshot, process.runtime()->traits, types),
      references_(process.snapshot, *process.runtime(), types) {}

void Closure::meet(Addr address) {
  const BlockId id = blocks_.find_object(address);
  if (id != kNoBlock) {
    if (seen_[id]) return;
    seen_[id] = true;
  } else if (!elsewhere_.insert(address).second) {
    return;
  }
  waiting_.push_back(address);
}

void Closure::follow(const ObjectView& object) {
  const TypeInfo& type = types_.shared_info(object.type.id);
  const bool of_module = type.kind == Kind::kModule;
  const bool traverses = type.has_gc();
  const auto visit = [&](Addr target, RefKind kind, const EdgeName&) {
    if (kind == RefKind::kVisited || (kind == RefKind::kOwned && follows_ == Follows::kCounted) ||
        (kind == RefKind::kConservative && traverses && may_be_visited(target, of_module)))
      meet(target);
  };
  references_.for_each(object, visit, blocks_.end_of(object));
}

// Of structs that nobody describes, tp_traverse mostly visits each object; of what a module keeps for its C code only
// those that may be part of a cycle.
bool Closure::may_be_visited(Addr address, bool of_module) {
  ObjectView object;
  return blocks_.find_object(address) != kNoBlock && objects_.at(address, object) &&
         (!of_module || types_.shared_info(object.type.id).has_gc());
}

std::uint64_t Closure::bytes_of(const ObjectView& object) {
  const std::uint64_t bytes = objects_.size_of(object, objects_.reader().span_to_end(object.address));
  return bytes <= mapped_bytes_ ? bytes : object.type.basicsize;  // the census has a finding of it
}

}  // namespace heapcore

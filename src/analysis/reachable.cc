#include "analysis/reachable.h"

#include <bit>
#include <unordered_set>
#include <vector>

#include "analysis/block_table.h"
#include "pyobj/objects.h"
#include "pyobj/references.h"

namespace heapcore {
namespace {

class Closure {
 public:
  Closure(const Process& process, const Census& census, const BlockTable& blocks)
      : mapped_bytes_(process.snapshot.mapped_bytes()),
        blocks_(blocks),
        seen_(blocks.objects()),
        objects_(process.snapshot, process.runtime()->traits, *census.types),
        references_(process.snapshot, *process.runtime(), *census.types) {}

  void run() {
    for (BlockId id = 0; id < blocks_.objects(); ++id) {
      ObjectView object;
      if (objects_.at(blocks_.address(id), object) && object.tracked) meet(object.address);
    }
    const auto follow = [this](Addr target, RefKind kind, const EdgeName&) {
      if (kind == RefKind::kVisited) meet(target);
    };
    while (!waiting_.empty()) {
      const Addr address = waiting_.back();
      waiting_.pop_back();
      ObjectView object;
      if (!objects_.at(address, object)) continue;
      count(object);
      references_.for_each(object, follow);
    }
  }

  std::vector<TypeTotals> by_type;
  std::array<TypeTotals, kSizeClasses> by_size;
  Findings& findings() { return references_.findings(); }

 private:
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

  void count(const ObjectView& object) {
    const std::span<const std::byte> bytes = objects_.reader().span_to_end(object.address);
    std::uint64_t size = objects_.size_of(object, bytes);
    if (size > mapped_bytes_) size = object.type.basicsize;  // the census has a finding of it
    if (object.type.id >= by_type.size()) by_type.resize(object.type.id + 1);
    by_type[object.type.id].all.add(size);
    by_size[static_cast<std::size_t>(std::bit_width(size))].all.add(size);
  }

  std::uint64_t mapped_bytes_;
  const BlockTable& blocks_;
  std::vector<bool> seen_;
  std::unordered_set<Addr> elsewhere_;  // not in swept memory: static objects
  std::vector<Addr> waiting_;
  ObjectReader objects_;
  ReferenceReader references_;
};

}  // namespace

Census take_census_of_reachable(const Process& process, Progress& progress, Findings& findings) {
  BlockTable blocks;
  Census census = take_census(process, progress, findings, &blocks);
  Closure closure(process, census, blocks);
  closure.run();
  findings.merge(closure.findings());
  Census reached;
  reached.types = std::move(census.types);
  reached.by_type = std::move(closure.by_type);
  reached.by_type.resize(reached.types->size());
  reached.by_size = closure.by_size;
  for (const TypeTotals& totals : reached.by_type) reached.total += totals.all;
  return reached;
}

}  // namespace heapcore

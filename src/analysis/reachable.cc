#include "analysis/reachable.h"

#include <bit>
#include <unordered_set>
#include <vector>

#include "analysis/block_table.h"
#include "analysis/closure.h"
#include "pyobj/gc_lists.h"

namespace heapcore {
namespace {

// What gc.freeze() put aside, and in 3.12 what is immortal: gc.get_objects() does not return it.
std::unordered_set<Addr> permanent_objects(const Process& process, std::uint64_t bound, Findings& findings) {
  std::unordered_set<Addr> found;
  const PyRuntime& runtime = *process.runtime();
  Reader reader(process.snapshot.space);
  for (const GcListHead& head : gc_list_heads(runtime)) {
    if (!head.permanent) continue;
    walk_gc_list(reader, runtime.traits, head.address, bound, findings,
                 [&](Addr node) { found.insert(node + runtime.traits.gc_head_bytes()); });
  }
  return found;
}

}  // namespace

Census take_census_of_reachable(const Process& process, Progress& progress, Findings& findings) {
  BlockTable blocks;
  Census census = take_census(process, progress, findings, &blocks);
  const std::unordered_set<Addr> frozen = permanent_objects(process, blocks.objects() + std::uint64_t{1}, findings);
  Closure closure(process, *census.types, blocks, Closure::Follows::kVisited);
  for (BlockId id = 0; id < blocks.objects(); ++id) {
    ObjectView object;
    if (closure.objects().at(blocks.address(id), object) && object.tracked && !frozen.contains(object.address))
      closure.start_from(object.address);
  }
  Census reached;
  closure.run([&](const ObjectView& object, std::uint64_t bytes) {
    if (object.type.id >= reached.by_type.size()) reached.by_type.resize(object.type.id + 1);
    reached.by_type[object.type.id].all.add(bytes);
    reached.by_size[static_cast<std::size_t>(std::bit_width(bytes))].all.add(bytes);
    reached.total.add(bytes);
  });
  findings.merge(closure.findings());
  reached.types = std::move(census.types);
  reached.by_type.resize(reached.types->size());
  return reached;
}

}  // namespace heapcore

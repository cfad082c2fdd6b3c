#include "analysis/diff.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "analysis/census.h"
#include "analysis/heap_graph.h"
#include "analysis/holders.h"
#include "analysis/merged_paths.h"
#include "analysis/survivors.h"
#include "glibc_heap/census.h"
#include "pyobj/mimalloc.h"

namespace heapcore {
namespace {

// sys.getsizeof of the objects of one side; of one whose length is damaged, its block.
class Sizes {
 public:
  Sizes(const Process& process, const BlockTable& blocks, TypeTable& types)
      : blocks_(blocks),
        objects_(process.snapshot, process.runtime()->traits, types),
        mapped_bytes_(process.snapshot.mapped_bytes()) {
    for (TypeId id = 0; id < types.size(); ++id) briefs_.push_back(types.classify(types.info(id).address));
  }

  std::uint64_t of(BlockId id) {
    ObjectView object;
    object.address = blocks_.address(id);
    object.type = briefs_[blocks_.type(id)];
    const std::uint64_t bytes = objects_.size_of(object, objects_.reader().span_to_end(object.address));
    return bytes <= mapped_bytes_ ? bytes : blocks_.bytes(id);
  }

 private:
  const BlockTable& blocks_;
  ObjectReader objects_;
  std::uint64_t mapped_bytes_;
  std::vector<TypeBrief> briefs_;  // by TypeId
};

// By type name, in no order.
std::vector<TypeGrowth> growth_by_type(const Process& older, const BlockTable& before, TypeTable& before_types,
                                       const Process& newer, const HeapGraph& graph, const Survivors& survivors) {
  std::vector<TypeGrowth> types;
  std::map<std::pair<std::string, std::string>, std::size_t> numbers;
  const auto number = [&](const TypeTable& table) {
    std::vector<std::size_t> of;
    for (TypeId id = 0; id < table.size(); ++id) {
      const TypeInfo& info = table.info(id);
      const auto [entry, inserted] = numbers.try_emplace({info.module, info.name}, types.size());
      if (inserted) types.push_back({info.module, info.name, {}, {}, {}, {}, {}});
      of.push_back(entry->second);
    }
    return of;
  };
  const std::vector<std::size_t> number_before = number(before_types);
  const std::vector<std::size_t> number_after = number(*graph.census.types);
  Sizes sizes_before(older, before, before_types);
  for (BlockId id = 0; id < before.objects(); ++id) {
    TypeGrowth& type = types[number_before[before.type(id)]];
    const std::uint64_t bytes = sizes_before.of(id);
    type.older.add(bytes);
    if (survivors.newer_of[id] == kNoBlock) type.gone.add(bytes);
  }
  Sizes sizes_after(newer, graph.blocks, *graph.census.types);
  for (BlockId id = 0; id < graph.blocks.objects(); ++id) {
    TypeGrowth& type = types[number_after[graph.blocks.type(id)]];
    const std::uint64_t bytes = sizes_after.of(id);
    type.newer.add(bytes);
    (survivors.survived[id] ? type.survived : type.added).add(bytes);
  }
  std::erase_if(types, [](const TypeGrowth& type) { return type.older.count + type.newer.count == 0; });
  return types;
}

TypeGrowth sum(const std::vector<TypeGrowth>& types) {
  TypeGrowth total;
  for (const TypeGrowth& type : types) {
    total.older += type.older;
    total.newer += type.newer;
    total.added += type.added;
    total.gone += type.gone;
    total.survived += type.survived;
  }
  return total;
}

// The new objects below which all that is new hangs, by who holds them.
std::vector<HeldGrowth> new_holders(const Process& newer, const Holders& holders, const Survivors& survivors,
                                    bool values, Findings& findings) {
  const BlockTable& blocks = holders.graph.blocks;
  const DominatorTree& tree = holders.retained.tree;
  std::vector<NodeId> heads;
  for (NodeId node = 0; node < blocks.objects(); ++node) {
    if (survivors.survived[node]) continue;
    NodeId above = tree.idom[node];
    while (above < blocks.size() && !blocks.is_object(above)) above = tree.idom[above];
    if (above >= blocks.size() || survivors.survived[above]) heads.push_back(node);
  }
  const MergedHolders merged = merge_holders(newer, holders.graph, heads, values, findings);
  std::map<std::pair<TypeId, std::uint32_t>, HeldGrowth> ways;
  for (std::size_t i = 0; i < heads.size(); ++i) {
    HeldGrowth& way = ways[{blocks.type(heads[i]), merged.way_of[i]}];
    if (way.count++ == 0) {
      way.type = holders.graph.type_name(heads[i]);
      way.path = merged.ways[merged.way_of[i]];
      way.example = blocks.address(heads[i]);
    }
    way.retained_bytes += holders.retained.bytes[heads[i]];
  }
  std::vector<HeldGrowth> found;
  for (auto& [key, way] : ways) found.push_back(std::move(way));
  std::sort(found.begin(), found.end(), [](const HeldGrowth& a, const HeldGrowth& b) {
    return std::tie(b.retained_bytes, a.type, a.path) < std::tie(a.retained_bytes, b.type, b.path);
  });
  return found;
}

// What one side's memory is, by figures that have the same names on the other.
std::map<std::string, std::uint64_t> figures(const Process& process, const std::optional<ObmallocUse>& use) {
  std::map<std::string, std::uint64_t> figures;
  if (use) {
    const std::string name = use->allocator;
    figures[name + ": arenas"] = use->bytes;
    figures[name + ": in use"] = use->bytes_in_use;
    figures[name + ": free"] = use->bytes_free;
  }
  if (const Heap* heap = process.heap()) {
    ArenaTotals all;
    for (const Arena& arena : heap->arenas) all += arena.totals;
    figures["malloc: in use"] = all.of(ChunkState::kInUse).bytes;
    figures["malloc: free"] = all.free().bytes;
    figures["malloc: malloc_trim(0) would return"] = all.trim_bytes();
    figures["malloc: mmapped chunks"] = heap->mmapped_total().bytes;
  }
  return figures;
}

std::map<std::string, std::uint64_t> by_category(const Ledger& ledger) {
  std::map<std::string, std::uint64_t> bytes;
  for (const LedgerRow& row : ledger.rows) bytes[row.category] += row.bytes;
  return bytes;
}

std::vector<FigureGrowth> joined(const std::map<std::string, std::uint64_t>& older,
                                 const std::map<std::string, std::uint64_t>& newer) {
  std::map<std::string, FigureGrowth> both;
  for (const auto& [what, value] : older) both[what].older = value;
  for (const auto& [what, value] : newer) both[what].newer = value;
  std::vector<FigureGrowth> rows;
  for (auto& [what, row] : both) {
    row.what = what;
    rows.push_back(row);
  }
  return rows;
}

struct Holdings {
  std::map<std::string, std::uint64_t> figures;
  std::map<std::string, std::uint64_t> ledger;
};

// REQUIRES: the census of this process was taken: what is damaged has been reported.
Holdings holdings(Process& process, const Census& census) {
  Findings reported;
  const std::optional<ObmallocUse> use = summarise_allocator(process.snapshot, *process.runtime(), reported);
  if (Heap* heap = process.heap()) count_chunks(process.snapshot, *heap, reported);
  return {figures(process, use), by_category(make_ledger(process, &census, use ? &*use : nullptr, process.findings))};
}

template <typename T>
void cut(std::vector<T>& list, std::size_t limit) {
  if (limit != 0 && list.size() > limit) list.resize(limit);
}

}  // namespace

Diff compare(Process& older, Process& newer, const DiffOptions& options, Progress& progress, Timings& timings) {
  Diff diff;
  BlockTable older_blocks;
  const Census older_census =
      timings.time("decode the older", [&] { return take_census(older, progress, older.findings, &older_blocks); });
  const Holders holders = find_holders(newer, progress, newer.findings, timings);
  const HeapGraph& graph = holders.graph;
  timings.time("compare", [&] {
    const Survivors survivors = find_survivors(older, older_blocks, *older_census.types, newer, graph);
    diff.types = growth_by_type(older, older_blocks, *older_census.types, newer, graph, survivors);
    diff.total = sum(diff.types);
    diff.types_count = diff.types.size();
    std::sort(diff.types.begin(), diff.types.end(), [](const TypeGrowth& a, const TypeGrowth& b) {
      return std::tuple(-a.grown_bytes(), a.module, a.name) < std::tuple(-b.grown_bytes(), b.module, b.name);
    });
    cut(diff.types, options.limit);
    diff.holders = new_holders(newer, holders, survivors, options.values, newer.findings);
    diff.holders_count = diff.holders.size();
    cut(diff.holders, options.limit);
  });
  timings.time("summarise", [&] {
    const Holdings before = holdings(older, older_census);
    const Holdings after = holdings(newer, graph.census);
    diff.figures = joined(before.figures, after.figures);
    diff.ledger = joined(before.ledger, after.ledger);
    std::stable_sort(diff.ledger.begin(), diff.ledger.end(),
                     [](const FigureGrowth& a, const FigureGrowth& b) { return a.grown() > b.grown(); });
  });
  return diff;
}

}  // namespace heapcore

#include "analysis/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "analysis/census.h"
#include "analysis/heap_graph.h"
#include "analysis/holders.h"
#include "analysis/merged_paths.h"
#include "analysis/stock.h"
#include "analysis/survivors.h"

namespace heapcore {
namespace {

// By the number of the type; types without objects are left out.
std::vector<TypeGrowth> growth_by_type(const OlderSide& older, const Process& newer, const HeapGraph& graph,
                                       const CommonTypes& common, const Survivors& survivors) {
  std::vector<TypeGrowth> types;
  for (const auto& [module, name] : common.names) types.push_back({module, name, {}, {}, {}, {}, {}});
  NodeSizes sizes_before(older.process, older.blocks, older.types, older.briefs);
  for (BlockId id = 0; id < older.blocks.objects(); ++id) {
    TypeGrowth& type = types[common.of_older[older.blocks.type(id)]];
    const std::uint64_t bytes = sizes_before.of(id);
    type.older.add(bytes);
    if (survivors.newer_of[id] == kNoBlock) type.gone.add(bytes);
  }
  NodeSizes sizes_after(newer, graph);
  for (BlockId id = 0; id < graph.blocks.objects(); ++id) {
    TypeGrowth& type = types[common.of_newer[graph.blocks.type(id)]];
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
    const ArenaTotals all = heap->totals();
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

template <typename T>
void cut(std::vector<T>& list, std::size_t limit) {
  if (limit != 0 && list.size() > limit) list.resize(limit);
}

// Their objects have addresses and types in common only by chance.
void note_strangers(const TargetInfo& older, const TargetInfo& newer, Findings& findings) {
  const bool other_pid = older.pid != 0 && newer.pid != 0 && older.pid != newer.pid;
  if (!other_pid && older.executable == newer.executable) return;
  const auto name = [](const TargetInfo& info) { return fmt::format("process {}, {}", info.pid, info.executable); };
  findings.note("other-process", Room::kAnalysis, 0,
                fmt::format("the older is of {}, the newer of {}: what survived can only be told of one process",
                            name(older), name(newer)));
}

}  // namespace

Diff compare(Process& older, Process& newer, const DiffOptions& options, Progress& progress, Timings& timings) {
  Diff diff;
  note_strangers(older.snapshot.info, newer.snapshot.info, newer.findings);
  BlockTable older_blocks;
  const Census older_census =
      timings.time("decode the older", [&] { return take_census(older, progress, older.findings, &older_blocks); });
  const Holders holders = find_holders(newer, progress, newer.findings, timings);
  const HeapGraph& graph = holders.graph;
  timings.time("compare", [&] {
    const OlderSide before{older, older_blocks, *older_census.types, briefs_of(*older_census.types)};
    const CommonTypes common(*older_census.types, *graph.census.types);
    const Survivors survivors = find_survivors(before, newer, graph, common);
    diff.types = growth_by_type(before, newer, graph, common, survivors);
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
  const Stock before = take_stock(older, &older_census, progress, timings);
  const Stock after = take_stock(newer, &graph.census, progress, timings);
  diff.figures = joined(figures(older, before.obmalloc), figures(newer, after.obmalloc));
  diff.ledger = joined(by_category(before.ledger), by_category(after.ledger));
  std::stable_sort(diff.ledger.begin(), diff.ledger.end(),
                   [](const FigureGrowth& a, const FigureGrowth& b) { return a.grown() > b.grown(); });
  return diff;
}

}  // namespace heapcore

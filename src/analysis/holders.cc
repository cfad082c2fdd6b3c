#include "analysis/holders.h"

#include <algorithm>

namespace heapcore {
namespace {

constexpr std::size_t kMaxChain = 100;
// Of what retains a tenth of the heap it is said where that piles up.
constexpr std::uint64_t kSuspectPart = 10;

class RowMaker {
 public:
  RowMaker(const Process& process, const Holders& holders, bool values, Findings& findings)
      : holders_(holders), paths_(process, holders.graph, values, findings), sizes_(process, holders.graph) {}

  RetainedRow row(NodeId node) {
    RetainedRow row;
    row.address = holders_.graph.blocks.address(node);
    row.type = holders_.graph.type_name(node);
    row.bytes = sizes_.of(node);
    row.retained_bytes = holders_.retained.bytes[node];
    const HolderPath path = paths_.path(node);
    if (path.root) row.root = root_kind_name(*path.root);
    row.path = path.text();
    return row;
  }

 private:
  const Holders& holders_;
  HolderPaths paths_;
  NodeSizes sizes_;
};

}  // namespace

Holders find_holders(const Process& process, Progress& progress, Findings& findings, Timings& timings) {
  Holders holders;
  holders.graph = link_heap(process, progress, findings, timings);
  holders.retained = timings.time("dominate", [&] { return find_retained(holders.graph); });
  return holders;
}

NodeSizes::NodeSizes(const Process& process, const HeapGraph& graph)
    : NodeSizes(process, graph.blocks, *graph.census.types, graph.briefs) {}

NodeSizes::NodeSizes(const Process& process, const BlockTable& blocks, TypeTable& types,
                     const std::vector<TypeBrief>& briefs)
    : blocks_(blocks),
      briefs_(briefs),
      mapped_bytes_(process.snapshot.mapped_bytes()),
      objects_(process.snapshot, process.runtime()->traits, types) {}

std::uint64_t NodeSizes::of(NodeId node) {
  if (!blocks_.is_object(node)) return blocks_.bytes(node);
  const ObjectView object = view_of(blocks_, briefs_, node);
  const std::uint64_t size = objects_.size_of(object, objects_.reader().span_to_end(object.address));
  return size <= mapped_bytes_ ? size : blocks_.bytes(node);  // the census has a finding of it
}

NodeId node_at(const BlockTable& blocks, Addr address) {
  if (const NodeId exact = blocks.find(address); exact != kNoBlock) return exact;
  for (const auto& [first, last] : {std::pair(NodeId{0}, blocks.objects()), {blocks.objects(), blocks.size()}}) {
    NodeId low = first;
    NodeId high = last;
    while (low < high) {
      const NodeId middle = low + (high - low) / 2;
      if (blocks.address(middle) <= address) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    if (low != first && address - blocks.address(low - 1) < blocks.bytes(low - 1)) return low - 1;
  }
  return kNoNode;
}

RetainedAnswer retained_answer(const Process& process, const Holders& holders, const RetainedOptions& options,
                               Findings& findings) {
  RetainedAnswer answer;
  const Retained& retained = holders.retained;
  const BlockTable& blocks = holders.graph.blocks;
  RowMaker rows(process, holders, options.values, findings);
  const auto cut = [&](std::size_t count) { return options.limit == 0 ? count : std::min(count, options.limit); };
  answer.total = {blocks.size(), blocks.total_bytes()};
  std::vector<NodeId> children;
  if (options.of != kNoNode) {
    children = largest_children(retained, options.of);
    std::vector<NodeId> chain;
    for (NodeId at = options.of; at < blocks.size() && chain.size() < kMaxChain; at = retained.tree.idom[at])
      chain.push_back(at);
    for (auto at = chain.rbegin(); at != chain.rend(); ++at) answer.chain.push_back(rows.row(*at));
  } else {
    RetainedGroups groups = group_retained(holders.graph, retained);
    answer.types = std::move(groups.types);
    answer.modules = std::move(groups.modules);
    answer.types.resize(cut(answer.types.size()));
    answer.modules.resize(cut(answer.modules.size()));
  }
  const std::vector<NodeId>& shown = options.of != kNoNode ? children : retained.top;
  answer.objects_count = shown.size();
  for (std::size_t i = 0; i < cut(shown.size()); ++i) {
    answer.objects.push_back(rows.row(shown[i]));
    if (retained.bytes[shown[i]] < answer.total.bytes / kSuspectPart) continue;
    const NodeId point = accumulation_point(retained, shown[i]);
    if (point != shown[i]) answer.accumulation.push_back(rows.row(point));
  }
  return answer;
}

void add_retained(const Holders& holders, std::vector<ReferencesOf>& answers) {
  const auto add = [&](Addr address, std::optional<std::uint64_t>& retained) {
    const NodeId node = holders.graph.blocks.find(address);
    if (node != kNoBlock) retained = holders.retained.bytes[node];
  };
  for (ReferencesOf& answer : answers) {
    add(answer.address, answer.retained_bytes);
    for (std::vector<Reference>* list : {&answer.out, &answer.in}) {
      for (Reference& reference : *list) add(reference.address, reference.retained_bytes);
    }
  }
}

}  // namespace heapcore

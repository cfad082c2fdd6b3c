#include "analysis/audit.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "pyobj/refcounts.h"

namespace heapcore {
namespace {

template <typename T>
void cut(std::vector<T>& list, std::size_t limit) {
  if (limit != 0 && list.size() > limit) list.resize(limit);
}

}  // namespace

AuditAnswer audit_counts(const Process& process, const HeapGraph& graph, std::size_t limit) {
  AuditAnswer answer;
  const PyTraits& traits = process.runtime()->traits;
  Reader reader(process.snapshot.space);
  NodeSizes sizes(process, graph);
  // What roots hold is held, but for those that only stand for what was not found.
  std::vector<bool> rooted(graph.blocks.objects());
  for (const RootRef& root : graph.roots) {
    if (root.word.kind < RootKind::kUnexplained && graph.blocks.is_object(root.target)) rooted[root.target] = true;
  }
  std::map<std::string, AuditRow> types;
  for (NodeId node = 0; node < graph.blocks.objects(); ++node) {
    if (graph.excess[node] <= 0) continue;
    AuditObject object;
    object.address = graph.blocks.address(node);
    object.type = graph.type_name(node);
    object.refcount = reference_count(traits, reader.span(object.address, traits.layout->PyObject.size_bytes));
    object.excess = graph.excess[node];
    object.lost = graph.in().row(node).empty() && !rooted[node];
    AuditRow& row = types[object.type];
    if (row.count++ == 0) row.example = object.address;
    row.bytes += sizes.of(node);
    row.excess += static_cast<std::uint64_t>(object.excess);
    row.lost += object.lost ? 1 : 0;
    answer.excess += static_cast<std::uint64_t>(object.excess);
    answer.objects.push_back(std::move(object));
  }
  for (auto& [name, row] : types) {
    row.type = name;
    answer.types.push_back(std::move(row));
  }
  std::stable_sort(answer.types.begin(), answer.types.end(),
                   [](const AuditRow& a, const AuditRow& b) { return a.excess > b.excess; });
  std::stable_sort(answer.objects.begin(), answer.objects.end(),
                   [](const AuditObject& a, const AuditObject& b) { return a.excess > b.excess; });
  answer.types_count = answer.types.size();
  answer.objects_count = answer.objects.size();
  cut(answer.types, limit);
  cut(answer.objects, limit);
  return answer;
}

}  // namespace heapcore

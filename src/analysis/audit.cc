#include "analysis/audit.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

#include "pyobj/refcounts.h"
#include "pyobj/strings.h"
#include "pyobj/values.h"

namespace heapcore {
namespace {

template <typename T>
void cut(std::vector<T>& list, std::size_t limit) {
  if (limit != 0 && list.size() > limit) list.resize(limit);
}

// Tells the objects that CPython itself counts once too often; each row of the traits is one object.
class KnownLeaks {
 public:
  KnownLeaks(const Process& process, const HeapGraph& graph, Findings& findings)
      : runtime_(*process.runtime()),
        types_(*graph.census.types),
        reader_(process.snapshot.space),
        values_(process.snapshot, runtime_, types_, {true, 0}, findings),
        rows_(runtime_.traits.never_given_back) {}

  // REQUIRES: object.type and object.excess are set. Sets object.name where it answers true.
  bool is_one(AuditObject& object) {
    if (object.excess != 1) return false;
    for (NeverGivenBack& row : rows_) {
      if (row.type == nullptr || object.type != row.type) continue;
      const std::string name = name_of(object);
      if (row.name != nullptr && name != row.name) continue;
      row = {};
      object.name = name;
      return true;
    }
    return false;
  }

 private:
  std::string name_of(const AuditObject& object) {
    const PyLayout& layout = *runtime_.traits.layout;
    if (object.type == "builtins.int") return values_.text(object.address);
    if (object.type == "builtins.type") {
      const TypeBrief type = types_.classify(object.address);
      if (type.id == kNoType) return "";
      const TypeInfo& info = types_.shared_info(type.id);
      return info.module + "." + info.name;
    }
    Addr dict = 0;
    if (object.type != "builtins.module" ||
        !reader_.try_load(object.address + layout.PyModuleObject.md_dict.offset, dict))
      return "";
    const auto name = dict_get(reader_, runtime_.traits, dict, "__name__");
    return name ? decode_str(reader_, runtime_.traits, *name, kMaxNameLength).value_or("") : "";
  }

  static constexpr std::uint64_t kMaxNameLength = 100;

  const PyRuntime& runtime_;
  TypeTable& types_;
  Reader reader_;
  ValueReader values_;
  std::array<NeverGivenBack, 5> rows_;  // those not met yet
};

}  // namespace

std::vector<bool> lost_objects(const HeapGraph& graph) {
  std::vector<bool> lost(graph.blocks.objects());
  for (NodeId node = 0; node < graph.blocks.objects(); ++node)
    lost[node] = graph.excess[node] > 0 && graph.in().row(node).empty();
  for (const RootRef& root : graph.roots) {
    if (root.word.kind < RootKind::kUnexplained && graph.blocks.is_object(root.target)) lost[root.target] = false;
  }
  return lost;
}

AuditAnswer audit_counts(const Process& process, const HeapGraph& graph, std::size_t limit) {
  AuditAnswer answer;
  const PyTraits& traits = process.runtime()->traits;
  Reader reader(process.snapshot.space);
  NodeSizes sizes(process, graph);
  const std::vector<bool> lost = lost_objects(graph);
  std::map<std::string, AuditRow> types;
  Findings said_elsewhere;
  KnownLeaks known(process, graph, said_elsewhere);
  for (NodeId node = 0; node < graph.blocks.objects(); ++node) {
    if (graph.excess[node] <= 0) continue;
    AuditObject object;
    object.address = graph.blocks.address(node);
    object.type = graph.type_name(node);
    object.refcount = reference_count(traits, reader.span(object.address, traits.layout->PyObject.size_bytes));
    object.excess = graph.excess[node];
    object.lost = lost[node];
    if (known.is_one(object)) {
      answer.never_given_back.push_back(std::move(object));
      continue;
    }
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

#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "analysis/holders.h"
#include "analysis/waste_parts.h"
#include "pyobj/capacity.h"
#include "pyobj/containers.h"
#include "pyobj/references.h"

namespace heapcore {
namespace {

constexpr std::size_t kPart = std::size_t{1} << 14;
constexpr std::uint64_t kSlotBytes = 8;
// Of the entries of a dict and of the slots of a set that is not sparse, one in so many is in use; growing leaves more.
constexpr std::uint64_t kDictFill = 4;
constexpr std::uint64_t kSetFill = 8;
constexpr std::uint64_t kMostItems = std::uint64_t{1} << 28;

// What of a type matters here.
struct TypeTraits {
  Kind kind = Kind::kUnknown;
  bool exact = false;  // the builtin type itself
};

class ContainerFinder {
 public:
  ContainerFinder(const Process& process, const HeapGraph& graph, const WasteOptions& options)
      : process_(process), graph_(graph), options_(options), is_root_(graph.blocks.size()) {
    const TypeTable& types = *graph.census.types;
    for (TypeId id = 0; id < types.size(); ++id)
      types_.push_back({types.info(id).kind, is_builtin(types.info(id), process.runtime()->traits)});
    for (const RootRef& root : graph.roots) is_root_[root.target] = true;
  }

  std::vector<WasteFind> run() {
    std::vector<WasteFind> found = in_parallel([this](NodeId node, Worker& worker, std::vector<WasteFind>& out) {
      if (types_[graph_.blocks.type(node)].kind == Kind::kInstance) look_at_instance(node, worker, out);
    });
    for (const WasteFind& find : found) instance_dicts_.push_back(find.shown);
    std::sort(instance_dicts_.begin(), instance_dicts_.end());
    const std::vector<WasteFind> rest = in_parallel(
        [this](NodeId node, Worker& worker, std::vector<WasteFind>& out) { look_at_container(node, worker, out); });
    found.insert(found.end(), rest.begin(), rest.end());
    return found;
  }

 private:
  struct Worker {
    Worker(const Process& process, const HeapGraph& graph)
        : reader(process.snapshot.space),
          sizes(process, graph),
          capacities(reader, process.runtime()->traits),
          containers(reader, process.runtime()->traits, kMostItems),
          references(process.snapshot, *process.runtime(), *graph.census.types) {}
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    Reader reader;
    NodeSizes sizes;
    CapacityReader capacities;
    ContainerReader containers;
    ReferenceReader references;
  };

  template <typename Look>
  std::vector<WasteFind> in_parallel(const Look& look) {
    const NodeId objects = graph_.blocks.objects();
    std::vector<std::vector<WasteFind>> parts((objects + kPart - 1) / kPart);
    tbb::enumerable_thread_specific<Worker> workers([this] { return Worker(process_, graph_); });
    tbb::parallel_for(std::size_t{0}, parts.size(), [&](std::size_t part) {
      Worker& worker = workers.local();
      const auto end = static_cast<NodeId>(std::min<std::size_t>(objects, (part + 1) * kPart));
      for (auto node = static_cast<NodeId>(part * kPart); node < end; ++node) look(node, worker, parts[part]);
    });
    std::vector<WasteFind> found;
    for (const std::vector<WasteFind>& part : parts) found.insert(found.end(), part.begin(), part.end());
    return found;
  }

  const TypeTraits& type_of(NodeId node) const { return types_[graph_.blocks.type(node)]; }
  bool is_exact(NodeId node, Kind kind) const {
    return graph_.blocks.is_object(node) && type_of(node).exact && type_of(node).kind == kind;
  }

  // Its __dict__, if it has one as an object.
  void look_at_instance(NodeId node, Worker& worker, std::vector<WasteFind>& out) const {
    const auto row = graph_.out.row(node);
    if (std::none_of(row.begin(), row.end(), [&](NodeId to) { return is_exact(to, Kind::kDict); })) return;
    NodeId dict = kNoNode;
    const auto visit = [&](Addr target, RefKind kind, const EdgeName& name) {
      if (kind == RefKind::kWeak || name.what != What::kField || std::strcmp(name.field, "__dict__") != 0) return;
      dict = graph_.blocks.find_object(target);
    };
    const ObjectView view = graph_.view(node);
    worker.references.for_each(view, visit, graph_.blocks.end_of(view, node));
    if (dict == kNoNode || !is_exact(dict, Kind::kDict) || holder_of(dict) != node) return;
    const std::uint64_t bytes = worker.sizes.of(dict);
    std::uint64_t used = 0;
    worker.reader.try_load(graph_.blocks.address(dict) + process_.runtime()->traits.layout->PyDictObject.ma_used.offset,
                           used);
    if (used > bytes / kSlotBytes) return;
    out.push_back({node, dict, WasteKind::kInstanceDicts, 1, bytes, bytes - used * kSlotBytes});
  }

  // What alone refers to a node; kNoNode if there are several, or a root.
  NodeId holder_of(NodeId node) const {
    const auto in = graph_.in().row(node);
    if (in.empty() || is_root_[node]) return kNoNode;
    return std::all_of(in.begin(), in.end(), [&](NodeId from) { return from == in[0]; }) ? in[0] : kNoNode;
  }

  void look_at_container(NodeId node, Worker& worker, std::vector<WasteFind>& out) const {
    const TypeTraits& type = type_of(node);
    const Addr address = graph_.blocks.address(node);
    std::optional<Capacity> capacity;
    bool sparse = false;
    switch (type.kind) {
      case Kind::kList:
        capacity = worker.capacities.list(address);
        break;
      case Kind::kByteArray:
        capacity = worker.capacities.byte_array(address);
        break;
      case Kind::kDict:
      case Kind::kDefaultDict:
        if (std::binary_search(instance_dicts_.begin(), instance_dicts_.end(), node)) return;
        capacity = worker.capacities.dict(address);
        sparse = capacity && capacity->length * kDictFill < capacity->room;
        break;
      case Kind::kSet:
      case Kind::kFrozenSet:
        capacity = worker.capacities.set(address);
        sparse = capacity && capacity->length * kSetFill < capacity->room;
        break;
      case Kind::kTuple:
        if (type.exact) look_for_numbers(node, worker, out);
        return;
      default:
        return;
    }
    if (!capacity) return;
    const bool may_be_empty = type.exact && type.kind != Kind::kFrozenSet;
    if (capacity->length == 0 && may_be_empty) {
      const std::uint64_t bytes = worker.sizes.of(node);
      out.push_back({node, node, WasteKind::kEmptyContainers, 1, bytes, bytes});
      return;
    }
    const bool has_spare_room = type.kind == Kind::kList || type.kind == Kind::kByteArray;
    if (capacity->spare_bytes != 0 && (sparse || has_spare_room)) {
      const std::uint64_t bytes = worker.sizes.of(node);
      out.push_back({node, node, sparse ? WasteKind::kSparseContainers : WasteKind::kSpareRoom, 1, bytes,
                     std::min(bytes, capacity->spare_bytes)});
    }
    if (type.exact && (type.kind == Kind::kList || type.kind == Kind::kDict)) look_for_numbers(node, worker, out);
  }

  bool is_number(NodeId node) const {
    return is_exact(node, Kind::kFloat) || is_exact(node, Kind::kInt) || is_exact(node, Kind::kSmallInt);
  }

  // Those of a container's values that are blocks; `length` is how many it has.
  std::vector<NodeId> values_of(NodeId node, Worker& worker, std::uint64_t& length) const {
    std::vector<NodeId> values;
    const auto row = graph_.out.row(node);
    if (row.size() < options_.least_numbers) return values;
    if (type_of(node).kind == Kind::kDict) {
      const Items items = worker.containers.dict(graph_.blocks.address(node));
      length = items.length;
      for (const Item& item : items.items) {
        const NodeId value = graph_.blocks.find_object(item.value);
        if (value != kNoNode) values.push_back(value);
      }
    } else if (is_number(row.back())) {  // what is refused here need not be copied
      const Field& ob_size = process_.runtime()->traits.layout->PyVarObject.ob_size;
      worker.reader.try_load(graph_.blocks.address(node) + ob_size.offset, length);
      std::copy_if(row.begin(), row.end(), std::back_inserter(values),
                   [&](NodeId to) { return graph_.blocks.is_object(to); });
    }
    return values;
  }

  // Numbers of one type that nothing but this container holds, if at least half of its values are such, and none is
  // anything else but an int that the interpreter keeps ready: those are held by it, or are no blocks.
  void look_for_numbers(NodeId node, Worker& worker, std::vector<WasteFind>& out) const {
    std::uint64_t length = 0;
    std::vector<NodeId> values = values_of(node, worker, length);
    if (values.size() < options_.least_numbers || values.size() < length / 2 || !is_number(values[values.size() / 2]))
      return;
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    WasteFind find{kNoNode, node, WasteKind::kBoxedNumbers, 0, 0, 0};
    const TypeId type = graph_.blocks.type(values[values.size() / 2]);
    for (const NodeId value : values) {
      if (!is_number(value) || graph_.blocks.type(value) != type) return;
      if (holder_of(value) != node) continue;
      find.node = value;
      ++find.count;
      find.bytes += worker.sizes.of(value);
    }
    if (find.count < options_.least_numbers || find.count < length / 2) return;
    find.wasted_bytes = find.bytes;
    out.push_back(find);
  }

  const Process& process_;
  const HeapGraph& graph_;
  const WasteOptions& options_;
  std::vector<bool> is_root_;           // by node
  std::vector<TypeTraits> types_;       // by TypeId
  std::vector<NodeId> instance_dicts_;  // sorted
};

}  // namespace

std::vector<WasteFind> find_container_waste(const Process& process, const HeapGraph& graph,
                                            const WasteOptions& options) {
  return ContainerFinder(process, graph, options).run();
}

}  // namespace heapcore

#include "analysis/cycles.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <string_view>
#include <tuple>

#include "analysis/components.h"
#include "pyobj/static_types.h"
#include "pyobj/strings.h"

namespace heapcore {
namespace {

// A component's shortest cycle is searched for among so many nodes; of a larger one, what is found is a part.
constexpr std::size_t kMaxSearched = 100'000;
constexpr std::size_t kMaxShown = 12;

// How long the part is that a sequence repeats; its own length if it repeats none.
template <typename T>
std::size_t period(const std::vector<T>& sequence) {
  for (std::size_t length = 1; length < sequence.size(); ++length) {
    if (sequence.size() % length == 0 &&
        std::equal(sequence.begin() + static_cast<std::ptrdiff_t>(length), sequence.end(), sequence.begin()))
      return length;
  }
  return sequence.size();
}

class CycleFinder {
 public:
  CycleFinder(const Process& process, const Holders& holders, const CyclesOptions& options, Findings& findings)
      : process_(process),
        reader_(process.snapshot.space),
        graph_(holders.graph),
        retained_(holders.retained),
        options_(options),
        paths_(process, holders.graph, options.values, findings),
        sizes_(process, holders.graph),
        garbage_(uncollected_garbage(process, holders.graph, findings)),
        is_garbage_(graph_.blocks.size()),
        led_to_(graph_.blocks.size()) {
    for (const NodeId node : garbage_.objects) is_garbage_[node] = true;
  }

  CyclesAnswer run() {
    follow_roots();
    describe_garbage();
    order_types();
    components_ = find_components(graph_.out);
    for (const std::vector<NodeId>& members : cyclic_members()) add(members);
    for (auto& [key, group] : groups_) answer_.groups.push_back(std::move(group));
    std::stable_sort(answer_.groups.begin(), answer_.groups.end(), [](const CycleGroup& a, const CycleGroup& b) {
      return std::tuple(a.garbage, a.retained_bytes) > std::tuple(b.garbage, b.retained_bytes);
    });
    answer_.groups_count = answer_.groups.size();
    answer_.garbage_types_count = answer_.garbage_types.size();
    if (options_.limit != 0) {
      answer_.groups.resize(std::min(answer_.groups.size(), options_.limit));
      answer_.garbage_types.resize(std::min(answer_.garbage_types.size(), options_.limit));
    }
    return std::move(answer_);
  }

 private:
  // From every root but those that stand for what nothing leads to.
  void follow_roots() {
    std::vector<NodeId> from;
    for (const RootRef& root : graph_.roots) {
      if (root.word.kind != RootKind::kUnreachable) from.push_back(root.target);
    }
    follow(from, led_to_, [](NodeId) {});
  }

  // Marks in `seen` all that `from` leads to, and calls visit(NodeId) for each that was not marked before.
  template <typename Visit>
  void follow(const std::vector<NodeId>& from, std::vector<bool>& seen, Visit&& visit) const {
    std::vector<NodeId> pending;
    const auto meet = [&](NodeId node) {
      if (seen[node]) return;
      seen[node] = true;
      visit(node);
      pending.push_back(node);
    };
    for (const NodeId node : from) meet(node);
    while (!pending.empty()) {
      const NodeId node = pending.back();
      pending.pop_back();
      for (const NodeId to : graph_.out.row(node)) meet(to);
    }
  }

  void describe_garbage() {
    std::map<std::pair<std::string, std::string>, std::pair<CountBytes, TypeId>> types;
    for (const NodeId node : garbage_.objects) {
      const TypeInfo& info = graph_.census.types->info(graph_.blocks.type(node));
      const std::uint64_t size = sizes_.of(node);
      auto& [total, id] = types[{info.module, info.name}];
      total.add(size);
      id = graph_.blocks.type(node);
      answer_.garbage.add(size);
    }
    for (const auto& [name, found] : types) {
      const Addr type = graph_.census.types->info(found.second).address;
      answer_.garbage_types.push_back({name.first, name.second, found.first, has_finalizer(type)});
    }
    answer_.generations = garbage_.generations;
    find_gc_garbage();
    std::stable_sort(answer_.garbage_types.begin(), answer_.garbage_types.end(),
                     [](const GarbageType& a, const GarbageType& b) { return a.total.count > b.total.count; });
    std::vector<bool> seen = led_to_;
    follow(garbage_.objects, seen, [&](NodeId node) { answer_.garbage_retained_bytes += graph_.blocks.bytes(node); });
    answer_.frozen = garbage_.frozen;
    for (const Interpreter& interpreter : process_.runtime()->interpreters)
      answer_.gc_enabled = answer_.gc_enabled && interpreter.gc_enabled;
  }

  std::uint64_t word(Addr base, const Field& field) {
    std::uint64_t value = 0;
    if (base != 0 && field.present()) reader_.try_load(base + field.offset, value);
    return value;
  }

  // Does any class in its __mro__ define __del__?
  bool has_finalizer(Addr type) {
    constexpr std::uint64_t kMaxBases = 1000;
    const PyRuntime& runtime = *process_.runtime();
    const PyLayout& layout = *runtime.traits.layout;
    const Addr mro = word(type, layout.PyTypeObject.tp_mro);
    const std::uint64_t bases = std::min(word(mro, layout.PyVarObject.ob_size), kMaxBases);
    for (std::uint64_t i = 0; i < bases; ++i) {
      Addr base = 0;
      if (!reader_.try_load(mro + layout.PyTupleObject.ob_item.offset + i * sizeof base, base)) return false;
      const Addr dict = type_dict(reader_, runtime, base);
      if (dict != 0 && dict_get(reader_, runtime.traits, dict, "__del__")) return true;
    }
    return false;
  }

  // Of the main interpreter: where its state has it, else as the module gc does.
  void find_gc_garbage() {
    const PyRuntime& runtime = *process_.runtime();
    const PyLayout& layout = *runtime.traits.layout;
    if (runtime.interpreters.empty()) return;
    const Addr interpreter = runtime.interpreters.back().address;
    Addr list = word(interpreter, layout.PyInterpreterState.gc_garbage);
    if (list == 0) {
      const auto get = [&](Addr dict, std::string_view key) {
        return dict == 0 ? Addr{0} : dict_get(reader_, runtime.traits, dict, key).value_or(0);
      };
      const Addr modules = get(word(interpreter, layout.PyInterpreterState.sysdict), "modules");
      list = get(word(get(modules, "gc"), layout.PyModuleObject.md_dict), "garbage");
    }
    ObjectView object;
    ObjectReader objects(process_.snapshot, runtime.traits, *graph_.census.types);
    if (list == 0 || !objects.at(list, object)) return;
    answer_.gc_garbage = list;
    answer_.gc_garbage_count = word(list, layout.PyVarObject.ob_size);
  }

  // A cycle is told from the object in it that says most: of a class of the program's own, and of those of the first by
  // name. TypeIds are in no order; these ranks are.
  void order_types() {
    const TypeTable& types = *graph_.census.types;
    std::vector<TypeId> order(types.size());
    std::iota(order.begin(), order.end(), TypeId{0});
    const auto says = [&](TypeId id) {
      const TypeInfo& info = types.info(id);
      return std::tuple(info.module == process_.runtime()->traits.builtins_module, std::string_view(info.module),
                        std::string_view(info.name));
    };
    std::sort(order.begin(), order.end(), [&](TypeId a, TypeId b) { return says(a) < says(b); });
    rank_of_.resize(types.size());
    std::uint32_t rank = 0;
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (i != 0 && says(order[i]) != says(order[i - 1])) ++rank;
      rank_of_[order[i]] = rank;
    }
  }

  std::uint32_t rank(NodeId node) const {
    return graph_.blocks.is_object(node) ? rank_of_[graph_.blocks.type(node)] : ~std::uint32_t{0};
  }

  // Of every component that has a cycle, its nodes, ascending.
  std::vector<std::vector<NodeId>> cyclic_members() const {
    std::vector<std::uint32_t> size(components_.count, 0);
    for (const std::uint32_t component : components_.of) ++size[component];
    std::vector<std::uint32_t> place(components_.count, ~0U);
    std::vector<std::vector<NodeId>> members;
    for (NodeId node = 0; node < graph_.blocks.size(); ++node) {
      const std::uint32_t component = components_.of[node];
      const auto row = graph_.out.row(node);
      if (size[component] == 1 && std::find(row.begin(), row.end(), node) == row.end()) continue;
      if (options_.garbage_only && !is_garbage_[node]) continue;
      if (place[component] == ~0U) {
        place[component] = static_cast<std::uint32_t>(members.size());
        members.emplace_back();
      }
      members[place[component]].push_back(node);
    }
    return members;
  }

  // The shortest way from `start` through its component back to itself; the nodes on it.
  std::vector<NodeId> shortest_cycle(NodeId start) const {
    std::map<NodeId, NodeId> parent;
    std::vector<NodeId> queue{start};
    for (std::size_t at = 0; at < queue.size() && queue.size() < kMaxSearched; ++at) {
      for (const NodeId to : graph_.out.row(queue[at])) {
        if (to == start) {
          std::vector<NodeId> cycle;
          for (NodeId back = queue[at]; back != start; back = parent[back]) cycle.push_back(back);
          cycle.push_back(start);
          std::reverse(cycle.begin(), cycle.end());
          return cycle;
        }
        if (components_.of[to] == components_.of[start] && parent.try_emplace(to, queue[at]).second)
          queue.push_back(to);
      }
    }
    return {start};
  }

  void add(const std::vector<NodeId>& members) {
    const NodeId start =
        *std::min_element(members.begin(), members.end(), [&](NodeId a, NodeId b) { return rank(a) < rank(b); });
    const std::vector<NodeId> cycle = shortest_cycle(start);
    std::vector<std::uint32_t> ranks;
    for (const NodeId node : cycle) ranks.push_back(rank(node));
    ranks.resize(std::min(period(ranks), kMaxShown));
    const bool garbage = std::any_of(members.begin(), members.end(), [&](NodeId node) { return is_garbage_[node]; });
    CycleGroup& group = groups_[{garbage, !garbage && led_to_[start], ranks}];
    group.garbage = garbage;
    group.reachable = !garbage && led_to_[start];
    if (group.count++ == 0) describe(group, cycle, ranks.size());
    group.objects += members.size();
    for (const NodeId node : members) {
      group.bytes += graph_.blocks.bytes(node);
      // What the component dominates, each part once: by its members whose dominator lies outside.
      const NodeId above = retained_.tree.idom[node];
      const bool outermost = above >= graph_.blocks.size() || components_.of[above] != components_.of[node];
      if (outermost) group.retained_bytes += retained_.bytes[node];
    }
  }

  // The bytes that a cycle holds beside itself through this node, or its __dict__.
  std::uint64_t hangs_from(NodeId node) const {
    std::uint64_t bytes = 0;
    for (const NodeId to : graph_.out.row(node)) {
      const NodeId above = retained_.tree.idom[to];
      const bool of_the_cycle = above < graph_.blocks.size() && components_.of[above] == components_.of[node];
      if (of_the_cycle && components_.of[to] != components_.of[node]) bytes += retained_.bytes[to];
    }
    return bytes;
  }

  // Begins with the object that most hangs from: the edge that closes the cycle is then the one that leads back to what
  // is worth freeing. Its __dict__ and what else is the interpreter's own counts for the object of a class before it.
  void turn_to_heaviest(std::vector<NodeId>& cycle) const {
    std::size_t first = 0;
    std::size_t last_named = 0;
    std::uint64_t most = 0;
    std::vector<std::uint64_t> hanging(cycle.size(), 0);
    for (std::size_t i = 0; i < cycle.size(); ++i) {
      if (is_named(cycle[i])) last_named = i;
      hanging[last_named] += hangs_from(cycle[i]);
    }
    for (std::size_t i = 0; i < cycle.size(); ++i) {
      if (hanging[i] <= most) continue;
      most = hanging[i];
      first = i;
    }
    std::rotate(cycle.begin(), cycle.begin() + static_cast<std::ptrdiff_t>(first), cycle.end());
  }

  bool is_named(NodeId node) const {
    return graph_.blocks.is_object(node) &&
           graph_.census.types->info(graph_.blocks.type(node)).module != process_.runtime()->traits.builtins_module;
  }

  // What a node of a cycle refers to that is in it: itself, if that is all of it.
  NodeId next_in_component(NodeId node) const {
    const auto row = graph_.out.row(node);
    if (std::find(row.begin(), row.end(), node) != row.end()) return node;
    const auto next =
        std::find_if(row.begin(), row.end(), [&](NodeId to) { return components_.of[to] == components_.of[node]; });
    return next == row.end() ? node : *next;
  }

  void describe(CycleGroup& group, std::vector<NodeId> cycle, std::size_t shown) {
    if (cycle.size() == shown) turn_to_heaviest(cycle);
    for (std::size_t i = 0; i < shown; ++i) {
      group.types.push_back(graph_.type_name(cycle[i]));
      const bool names = !group.edges.empty() && HolderPaths::leads_to_names(group.edges.back());
      // Of a cycle too long to be found whole, the first step.
      const NodeId next = cycle.size() == 1 ? next_in_component(cycle[i]) : cycle[(i + 1) % cycle.size()];
      group.edges.push_back(paths_.edge(cycle[i], next, names));
    }
    group.example = graph_.blocks.address(cycle.front());
    group.closing_edge = join_edges({group.types.back(), group.edges.back()});
  }

  using Key = std::tuple<bool, bool, std::vector<std::uint32_t>>;

  const Process& process_;
  Reader reader_;
  const HeapGraph& graph_;
  const Retained& retained_;
  const CyclesOptions& options_;
  HolderPaths paths_;
  NodeSizes sizes_;
  Garbage garbage_;
  std::vector<bool> is_garbage_;
  std::vector<bool> led_to_;  // by some root
  Components components_;
  std::vector<std::uint32_t> rank_of_;  // by TypeId
  std::map<Key, CycleGroup> groups_;
  CyclesAnswer answer_;
};

}  // namespace

// A dict that is only an object's __dict__ is no station of its own.
std::string CycleGroup::text() const {
  std::string text;
  for (std::size_t i = 0; i < types.size(); ++i) {
    if (i != 0) text += " -> ";
    std::vector<std::string> joined{types[i], edges[i]};
    if (edges[i] == ".__dict__" && i + 1 < types.size()) joined.push_back(edges[++i]);
    text += join_edges(joined);
  }
  return text;
}

CyclesAnswer find_cycles(const Process& process, const Holders& holders, const CyclesOptions& options,
                         Findings& findings) {
  return CycleFinder(process, holders, options, findings).run();
}

}  // namespace heapcore

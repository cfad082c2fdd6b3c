#include "analysis/malloc_owners.h"

#include <algorithm>
#include <map>
#include <optional>

#include "analysis/module_places.h"
#include "pyobj/builtins_names.h"
#include "pyobj/frames.h"

namespace heapcore {
namespace {

class OwnerFinder {
 public:
  OwnerFinder(const Process& process, const Holders& holders)
      : process_(process),
        graph_(holders.graph),
        blocks_(holders.graph.blocks),
        tree_(holders.retained.tree),
        places_(process.snapshot),
        owner_of_(blocks_.size() - blocks_.objects(), kUndecided) {
    names_ = {{"", true}, {"the interpreter", false}, {"threads' stacks and registers", true}};
    own_structures();
    for (const RootRef& root : graph_.roots) {
      if (blocks_.is_object(root.target) || root.word.kind >= RootKind::kImmortal) continue;
      std::uint32_t& owner = owner_of_[root.target - blocks_.objects()];
      if (owner == kUndecided) owner = root_owner(root.word);  // the surest root comes first
    }
  }

  MallocOwners run() {
    MallocOwners result;
    CountBytes objects;
    std::vector<CountBytes> chunks;
    for (NodeId node = 0; node < blocks_.size(); ++node) {
      if (!is_chunk(blocks_.address(node))) continue;
      const std::uint64_t bytes = blocks_.bytes(node);
      result.total.add(bytes);
      if (blocks_.is_object(node)) {
        objects.add(bytes);
        continue;
      }
      const std::uint32_t owner = owner_of(node);
      if (owner >= chunks.size()) chunks.resize(owner + 1);
      chunks[owner].add(bytes);
    }
    if (objects.count != 0) result.owners.push_back({"Python objects", objects});
    for (std::uint32_t owner = 0; owner < chunks.size(); ++owner) {
      if (owner == kUnowned) {
        result.unowned = chunks[owner];
      } else if (chunks[owner].count != 0) {
        result.owners.push_back({names_[owner].name, chunks[owner]});
      }
    }
    std::stable_sort(result.owners.begin(), result.owners.end(),
                     [](const MallocOwner& a, const MallocOwner& b) { return a.chunks.bytes > b.chunks.bytes; });
    // What is no chunk was decided on the way only.
    for (NodeId node = blocks_.objects(); node < blocks_.size(); ++node) {
      std::uint32_t& owner = owner_of_[node - blocks_.objects()];
      if (owner != kUndecided && !is_chunk(blocks_.address(node))) owner = kUndecided;
    }
    result.owner_of = std::move(owner_of_);
    result.raw_owners = std::move(names_);
    return result;
  }

 private:
  // The states of interpreters and threads are found by what they are, and held by nothing that is looked at.
  void own_structures() {
    Reader reader(process_.snapshot.space);
    const auto own = [this](Addr structure) {
      const NodeId node = blocks_.find_raw(structure);
      if (node != kNoBlock) owner_of_[node - blocks_.objects()] = kInterpreter;
    };
    for (const Interpreter& interpreter : process_.runtime()->interpreters) {
      own(interpreter.address);
      for (const Addr state : thread_states(reader, *process_.runtime(), interpreter)) own(state);
    }
  }

  static constexpr std::uint32_t kUnowned = 0;
  static constexpr std::uint32_t kInterpreter = 1;
  static constexpr std::uint32_t kStacks = 2;
  static constexpr std::size_t kMaxChain = 100;
  static constexpr std::uint32_t kUndecided = MallocOwners::kNotAsked;

  bool is_chunk(Addr address) const {
    const Heap& heap = *process_.heap();
    if (heap.region_at(address) != nullptr) return true;
    const auto after = std::upper_bound(heap.mmapped.begin(), heap.mmapped.end(), address,
                                        [](Addr a, const MmappedChunk& chunk) { return a < chunk.mapping.start; });
    return after != heap.mmapped.begin() && address < std::prev(after)->mapping.end;
  }

  // An object that refers to it; else the object, or the root, that what leads to it belongs to.
  std::uint32_t owner_of(NodeId node) {
    std::vector<NodeId> undecided;
    std::uint32_t owner = kUnowned;
    for (NodeId at = node; at < blocks_.size(); at = above(at, undecided)) {
      if (blocks_.is_object(at)) {
        owner = number(type_of(at), false);
        break;
      }
      if (owner_of_[at - blocks_.objects()] != kUndecided) {
        owner = owner_of_[at - blocks_.objects()];
        break;
      }
      undecided.push_back(at);
      if (const std::optional<NodeId> holder = object_that_refers_to(at)) {
        owner = number(type_of(*holder), false);
        break;
      }
    }
    for (const NodeId at : undecided) owner_of_[at - blocks_.objects()] = owner;
    return owner;
  }

  // What dominates it; or, where several lead to it, the first of those that `below` is not from.
  NodeId above(NodeId node, const std::vector<NodeId>& below) const {
    const NodeId dominator = tree_.idom[node];
    if (dominator < blocks_.size() || below.size() >= kMaxChain) return dominator;
    for (const NodeId from : graph_.in().row(node)) {
      if (std::find(below.begin(), below.end(), from) == below.end()) return from;
    }
    return kNoNode;
  }

  std::optional<NodeId> object_that_refers_to(NodeId node) const {
    const auto row = graph_.in().row(node);
    const auto found = std::find_if(row.begin(), row.end(), [this](NodeId from) { return blocks_.is_object(from); });
    return found == row.end() ? std::nullopt : std::optional<NodeId>(*found);
  }

  std::string type_of(NodeId object) const { return std::string(without_builtins(graph_.type_name(object))); }

  std::uint32_t root_owner(const RootWord& root) {
    if (root.kind == RootKind::kStack) return kStacks;
    if (root.kind != RootKind::kStatic) return kInterpreter;
    const ModulePlace* place = places_.at(root.place);
    if (place == nullptr) return kInterpreter;
    const std::string_view module = place->module->name();
    const bool is_pythons = module.starts_with("python") || module.starts_with("libpython");
    return number("static data of " + std::string(module), !is_pythons);
  }

  std::uint32_t number(const std::string& name, bool is_native) {
    const auto [entry, inserted] = numbers_.try_emplace(name, static_cast<std::uint32_t>(names_.size()));
    if (inserted) names_.push_back({name, is_native});
    return entry->second;
  }

  const Process& process_;
  const HeapGraph& graph_;
  const BlockTable& blocks_;
  const DominatorTree& tree_;
  ModulePlaces places_;
  std::vector<std::uint32_t> owner_of_;  // by raw block: which of names_
  std::vector<RawOwner> names_;
  std::map<std::string, std::uint32_t> numbers_;
};

}  // namespace

MallocOwners find_malloc_owners(const Process& process, const Holders& holders) {
  return OwnerFinder(process, holders).run();
}

}  // namespace heapcore

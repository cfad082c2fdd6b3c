// Where memory piles up: the places in the dominator tree below which it parts into little, what it parts into, and
// whose place that is. For the rules of diagnose_holders.cc.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "analysis/holders.h"
#include "pyobj/values.h"

namespace heapcore {

inline constexpr std::uint64_t kManyItems = 100;
inline constexpr std::uint64_t kItemsPercent = 50;  // of a pile, that its items make up

struct Group {
  std::uint64_t count = 0;
  std::uint64_t retained_bytes = 0;
  NodeId example = kNoNode;
  std::vector<NodeId> members;
};

// What most of a pile is: "40,000 __main__.Processor".
struct PileItems {
  std::string type;
  TypeId type_id = kNoType;
  Group group;
};

// How many objects are held, as expressions, the most frequent first; and one that is held by the first.
struct Ways {
  std::vector<std::string> texts;
  NodeId example = kNoNode;
};

// Where memory piles up: below `point`, in parts that are small by themselves.
struct Pile {
  NodeId point = kNoNode;   // none: what nothing alone holds
  NodeId holder = kNoNode;  // the object that `point` is, or is a table of
  std::uint64_t bytes = 0;
  bool is_chain = false;  // what retains it all leads from one to the next
};

// The place that a path gives what it leads to, from the last step that is no dict of names.
struct Owner {
  enum class Kind : std::uint8_t { kClass, kModule, kLruCache, kTraceback, kFrame, kOther } kind = Kind::kOther;
  NodeId node = kNoNode;
  bool outlives_calls = false;  // no call in progress is on the path
};

class PileFinder {
 public:
  HolderPaths paths;

  PileFinder(const Process& process, const Holders& holders, bool values, Findings& findings)
      : paths(process, holders.graph, values, findings),
        process_(process),
        graph_(holders.graph),
        blocks_(holders.graph.blocks),
        retained_(holders.retained),
        reader_(process.snapshot.space),
        values_(process.snapshot, *process.runtime(), *holders.graph.census.types, {values, 10}, findings),
        values_shown_(values),
        findings_(findings) {}

  // From the top of the tree down: through what leads to names (modules, classes) to all that is large there; through
  // other objects as long as one part is most of what they retain, as accumulation_point() does.
  std::vector<Pile> piles(std::uint64_t least_bytes);

  // Objects of one type that are large together, each held by several of what `point` retains; of kNoNode, by anything.
  std::vector<PileItems> held_together(NodeId point, std::uint64_t least_bytes) const;

  // What holds at least half of a group.
  Ways ways_to(const Group& group);

  // Of the parts of a pile those of the type that makes up most of it; of lists in a dict, what is in the lists.
  PileItems items(const Pile& pile) const;

  // Of `node`, which `path` leads to.
  Owner owner(NodeId node, const HolderPath& path) const;

  // A module, a class, the dict of one, or its table; or what C code holds things in.
  bool is_namespace(NodeId node);

  bool is_container(TypeId type) const;
  bool holds_in_container(const Pile& pile) const {
    return is_container(blocks_.type(pile.holder)) || is_queue(pile.holder);
  }

  // A queue.Queue, SimpleQueue, asyncio.Queue and the like.
  bool is_queue(NodeId node) const {
    return node != kNoNode && blocks_.is_object(node) && graph_.type_name(node).ends_with("Queue");
  }

  // Of a class that Python code defines, and not of a container.
  bool is_instance(TypeId type) const {
    return type != kNoType && graph_.census.types->info(type).kind == Kind::kInstance;
  }

  Addr address(NodeId node) const { return blocks_.address(node); }

  // How many a dict has; of others 0.
  std::uint64_t entries(NodeId node) const;

  std::string maxsize(NodeId cache);

  // The type of an object of the program's own that the first key of an lru_cache's dict holds; empty if there is none.
  std::string kept_by_keys(NodeId dict);

  // Of a pile, what is there because tracebacks are: they hold the frames of calls that are over, and those their
  // locals.
  std::uint64_t tracebacks_hold(const Pile& pile) const;

 private:
  Kind kind_at(NodeId node) const {
    if (!blocks_.is_object(node)) return Kind::kUnknown;
    return graph_.census.types->info(blocks_.type(node)).kind;
  }

  static bool names_things(Kind kind) {
    return kind == Kind::kModule || kind == Kind::kType || kind == Kind::kClassicClass;
  }

  static bool is_call(Kind kind) {
    return kind == Kind::kFrame || kind == Kind::kGenerator || kind == Kind::kCoroutine ||
           kind == Kind::kAsyncGenerator;
  }

  // What of a node's own is large.
  struct Large {
    std::vector<NodeId> nodes;
    NodeId largest = kNoNode;
    std::uint64_t bytes = 0;
  };

  Owner nearest_owner(NodeId node, const HolderPath& path) const;

  Large large_in(NodeId node, std::uint64_t least_bytes) const;

  // Down to where what `start` retains parts into little. What is large beside the way is left to be looked at. Where
  // several large parts are most of an object, each is looked at, unless they are what they are part of, as in a tree.
  void follow(NodeId start, std::uint64_t least_bytes, std::vector<NodeId>& pending, std::vector<Pile>& found);

  bool is_one_of(const std::vector<TypeId>& types, NodeId node) const {
    return blocks_.is_object(node) && std::find(types.begin(), types.end(), blocks_.type(node)) != types.end();
  }

  void add_to(Group& group, NodeId node) const;

  static std::vector<NodeId> samples(const Group& group);

  // Neither garbage nor lost: of those other rules speak.
  bool is_in_use(const Group& group) const;

  NodeId object_above(NodeId node) const {
    while (node < blocks_.size() && !blocks_.is_object(node)) node = retained_.tree.idom[node];
    return node < blocks_.size() ? node : kNoNode;
  }

  // Of what `from` dominate, through their tables, the type that retains most.
  PileItems largest_group(const std::vector<NodeId>& from) const;

  const Process& process_;
  const HeapGraph& graph_;
  const BlockTable& blocks_;
  const Retained& retained_;
  Reader reader_;
  ValueReader values_;
  bool values_shown_;
  Findings& findings_;
};

}  // namespace heapcore

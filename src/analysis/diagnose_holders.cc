// What holds much: where in the dominator tree memory piles up, and what that place is. A registry on a class, a cache
// that nobody bounds, a traceback that keeps frames: each is known by the path that leads to it and by what is in it.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "analysis/diagnosis_rules.h"
#include "pyobj/containers.h"
#include "pyobj/values.h"
#include "support/units.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kManyItems = 100;
constexpr std::uint64_t kItemsPercent = 50;     // of a pile, that its items make up
constexpr std::size_t kMostLooked = 1'000'000;  // nodes looked at for the items of one pile
constexpr int kMaxNested = 3;                   // containers in containers, down to the items

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

// Where memory piles up: below `point`, in parts that are small by themselves.
struct Pile {
  NodeId point = kNoNode;
  NodeId holder = kNoNode;  // the object that `point` is, or is a table of
  std::uint64_t bytes = 0;
};

// The place that a path gives what it leads to, from the last step that is no dict of names.
struct Owner {
  enum class Kind : std::uint8_t { kClass, kModule, kLruCache, kTraceback, kFrame, kOther } kind = Kind::kOther;
  NodeId node = kNoNode;
};

class PileFinder {
 public:
  PileFinder(const Process& process, const Holders& holders, bool values, Findings& findings)
      : process_(process),
        graph_(holders.graph),
        blocks_(holders.graph.blocks),
        retained_(holders.retained),
        paths(process, holders.graph, values, findings) {}

  std::vector<Pile> piles(std::uint64_t least_bytes) const {
    std::vector<Pile> found;
    std::vector<NodeId> pending;
    for (const NodeId node : retained_.top) {
      if (retained_.bytes[node] < least_bytes) break;  // the largest come first
      pending.push_back(node);
    }
    while (!pending.empty()) {
      const NodeId node = pending.back();
      pending.pop_back();
      std::uint64_t bytes = retained_.bytes[node];
      for (const NodeId child : retained_.children.row(node)) {
        if (retained_.bytes[child] < least_bytes) continue;
        bytes -= retained_.bytes[child];
        pending.push_back(child);
      }
      if (bytes >= least_bytes) found.push_back({node, object_above(node), bytes});
    }
    return found;
  }

  // Of the parts of a pile those of the type that makes up most of it; of lists in a dict, what is in the lists.
  PileItems items(const Pile& pile) const {
    PileItems best;
    std::vector<NodeId> from{pile.point};
    for (int depth = 0; depth < kMaxNested; ++depth) {
      PileItems below = largest_group(from);
      if (below.group.retained_bytes < pile.bytes / 100 * kItemsPercent) break;
      best = std::move(below);
      if (!is_plain_container(best.type_id)) break;
      from = best.group.members;
    }
    best.group.members.clear();
    return best;
  }

  Owner owner(NodeId node, const HolderPath& path) const {
    const auto kind_at = [&](NodeId at) {
      if (!blocks_.is_object(at)) return Kind::kUnknown;
      return graph_.census.types->info(blocks_.type(at)).kind;
    };
    for (auto step = path.steps.rbegin(); step != path.steps.rend(); ++step) {
      const Kind kind = kind_at(step->node);
      if (kind == Kind::kLruCache) return {Owner::Kind::kLruCache, step->node};
      if (step->node == node) continue;
      if (kind == Kind::kTraceback) return {Owner::Kind::kTraceback, step->node};
      if (kind == Kind::kType || kind == Kind::kClassicClass) return {Owner::Kind::kClass, step->node};
      if (kind == Kind::kModule) return {Owner::Kind::kModule, step->node};
      if (kind != Kind::kDict || !HolderPaths::leads_to_names(step->edge)) return {Owner::Kind::kOther, step->node};
    }
    return {path.root == RootKind::kFrame ? Owner::Kind::kFrame : Owner::Kind::kOther, kNoNode};
  }

  bool is_container(NodeId node) const {
    const Kind kind = graph_.census.types->info(blocks_.type(node)).kind;
    return kind == Kind::kDict || kind == Kind::kOrderedDict || kind == Kind::kDefaultDict || kind == Kind::kList ||
           kind == Kind::kSet || kind == Kind::kDeque;
  }

  // Of a class that Python code defines, and not of a container.
  bool is_instance(TypeId type) const {
    return type != kNoType && graph_.census.types->info(type).kind == Kind::kInstance;
  }

  bool is_garbage(const HolderPath& path) const { return path.root == RootKind::kUnreachable; }

 private:
  NodeId object_above(NodeId node) const {
    while (node < blocks_.size() && !blocks_.is_object(node)) node = retained_.tree.idom[node];
    return node < blocks_.size() ? node : kNoNode;
  }

  bool is_plain_container(TypeId type) const {
    if (type == kNoType) return false;
    const Kind kind = graph_.census.types->info(type).kind;
    return kind == Kind::kDict || kind == Kind::kList || kind == Kind::kTuple || kind == Kind::kSet ||
           kind == Kind::kDeque || kind == Kind::kOrderedDict || kind == Kind::kDefaultDict;
  }

  // Of what `from` dominate, through their tables, the type that retains most.
  PileItems largest_group(const std::vector<NodeId>& from) const {
    std::map<std::string, Group> groups;
    std::vector<NodeId> pending = from;
    for (std::size_t at = 0; at < pending.size() && at < kMostLooked; ++at) {
      for (const NodeId child : retained_.children.row(pending[at])) {
        if (!blocks_.is_object(child)) {
          pending.push_back(child);
          continue;
        }
        Group& group = groups[graph_.type_name(child)];
        ++group.count;
        group.retained_bytes += retained_.bytes[child];
        group.example = child;
        group.members.push_back(child);
      }
    }
    const auto most = std::max_element(groups.begin(), groups.end(), [](const auto& a, const auto& b) {
      return a.second.retained_bytes < b.second.retained_bytes;
    });
    if (most == groups.end()) return {};
    return {most->first, blocks_.type(most->second.example), std::move(most->second)};
  }

  const Process& process_;
  const HeapGraph& graph_;
  const BlockTable& blocks_;
  const Retained& retained_;

 public:
  HolderPaths paths;
};

// What is known of a pile, for the rules.
struct Suspect {
  Pile pile;
  HolderPath path;
  std::string text;  // of the path
  std::string type;  // of the holder
  Owner owner;
  PileItems items;
};

std::string held(const Suspect& suspect) {
  return suspect.items.group.count == 0
             ? suspect.type
             : fmt::format("{} {}", count_text(suspect.items.group.count), suspect.items.type);
}

void say_registry(const Suspect& suspect, Diagnosis& found) {
  const bool on_class = suspect.owner.kind == Owner::Kind::kClass;
  found.title = fmt::format("{} holds {}, which retain {}", suspect.text, held(suspect), bytes_text(found.bytes));
  found.evidence.push_back(fmt::format("the {} is {} of a {}, so it lives as long as the program", suspect.type,
                                       on_class ? "an attribute" : "a global", on_class ? "class" : "module"));
  found.evidence.push_back(fmt::format("nothing but {} leads to these {} {}: dropped from it, they would go",
                                       suspect.text, count_text(suspect.items.group.count), suspect.items.type));
  found.advice = fmt::format(
      "If {} is to find objects that others use, make it a weakref.WeakValueDictionary (or WeakSet); else take each "
      "{} out of it when it is done with, or bound it.",
      suspect.text, suspect.items.type);
}

void say_cache(const Suspect& suspect, const std::optional<std::string>& maxsize, const std::string& keeps,
               Diagnosis& found) {
  found.title =
      fmt::format("{} keeps {} and grows without a bound: {}", suspect.text, held(suspect), bytes_text(found.bytes));
  if (maxsize) found.evidence.push_back("functools.lru_cache with maxsize=" + *maxsize);
  if (!keeps.empty())
    found.evidence.push_back(fmt::format("its keys hold {}: the arguments of every call, self among them", keeps));
  found.evidence.push_back(fmt::format("nothing but {} leads to them", suspect.text));
  found.advice =
      maxsize ? fmt::format("Give it a maxsize.{}",
                            keeps.empty() ? ""
                                          : " On a method it keeps every self alive as well: cache on the instance "
                                            "(functools.cached_property), or in a function that takes what it needs.")
              : fmt::format(
                    "Bound {} (functools.lru_cache with a maxsize, collections.deque(maxlen=...)), "
                    "or empty it when what it holds is out of date.",
                    suspect.text);
}

}  // namespace

void Rules::holders() {
  const Holders& holders = *incident_.holders;
  const HeapGraph& graph = holders.graph;
  PileFinder finder(process_, holders, options_.values, findings_);
  ValueReader values(process_.snapshot, *process_.runtime(), *graph.census.types, {options_.values, 10}, findings_);
  for (const Pile& pile : finder.piles(least_bytes())) {
    if (pile.holder == kNoNode) continue;
    Suspect suspect;
    suspect.pile = pile;
    suspect.path = finder.paths.path(pile.holder);
    if (finder.is_garbage(suspect.path)) continue;  // the cycles' rule speaks of it
    suspect.text = suspect.path.text();
    suspect.type = graph.type_name(pile.holder);
    suspect.owner = finder.owner(pile.holder, suspect.path);
    suspect.items = finder.items(pile);
    const bool long_lived = suspect.owner.kind == Owner::Kind::kClass || suspect.owner.kind == Owner::Kind::kModule;
    const bool many = suspect.items.group.count >= kManyItems && finder.is_container(pile.holder);
    const Severity severe = severity(pile.bytes);
    Diagnosis* found = nullptr;
    if (suspect.owner.kind == Owner::Kind::kLruCache) {
      suspect.text = finder.paths.path(suspect.owner.node).text();
      std::optional<std::string> maxsize;
      for (const ValuePart& field : values.describe(graph.blocks.address(suspect.owner.node)).fields) {
        if (field.name == "maxsize") maxsize = field.text;
      }
      found = &add("unbounded-cache", maxsize == "None" ? severe : Severity::kMedium, pile.bytes, "");
      say_cache(suspect, maxsize, "", *found);
    } else if (suspect.owner.kind == Owner::Kind::kTraceback) {
      found = &add("traceback-pins-frames", severe, pile.bytes,
                   fmt::format("a traceback keeps the frames of a call that is over: {}", bytes_text(pile.bytes)));
      found->evidence.push_back("held by " + suspect.text);
      found->advice =
          "Keep no exception longer than it is handled: store str(e) or traceback.format_exc(), or clear "
          "it (e.__traceback__ = None, traceback.clear_frames()).";
    } else if (suspect.text.ends_with(".queries_log") || suspect.text.ends_with(".queries")) {
      found = &add("debug-query-log", severe, pile.bytes,
                   fmt::format("{} records every query: {}", suspect.text, bytes_text(pile.bytes)));
      found->evidence.push_back(fmt::format("it holds {}", held(suspect)));
      found->advice = "Switch debugging off (Django: DEBUG = False), or call reset_queries() after each piece of work.";
    } else if (long_lived && many && finder.is_instance(suspect.items.type_id)) {
      found = &add("static-registry", severe, pile.bytes, "");
      say_registry(suspect, *found);
    } else if (long_lived && many) {
      found = &add("unbounded-cache", severe, pile.bytes, "");
      say_cache(suspect, std::nullopt, "", *found);
    } else {
      found = &add("dominant-holder", Severity::kMedium, pile.bytes,
                   fmt::format("{} retains {}", suspect.text, bytes_text(pile.bytes)));
      if (suspect.items.group.count != 0) found->evidence.push_back("most of it is " + held(suspect));
      found->evidence.push_back(fmt::format("it is a {}, and all of this would go with it", suspect.type));
      found->advice = fmt::format(
          "Where it is not needed any more, let go of it. `heapcore retained TARGET {:#x}` "
          "shows what is in it.",
          graph.blocks.address(pile.holder));
    }
    found->evidence.push_back(
        fmt::format("{} at {:#x}: {}", suspect.type, graph.blocks.address(pile.holder), share(pile.bytes)));
    if (suspect.items.group.example != kNoNode) {
      found->evidence.push_back("such as " + finder.paths.path(suspect.items.group.example).text());
    }
    found->objects.push_back(graph.blocks.address(pile.holder));
    if (suspect.items.group.example != kNoNode)
      found->objects.push_back(graph.blocks.address(suspect.items.group.example));
  }
}

}  // namespace heapcore

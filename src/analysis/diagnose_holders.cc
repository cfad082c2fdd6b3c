// What holds much: where in the dominator tree memory piles up, and what that place is. A registry on a class, a cache
// that nobody bounds, a traceback that keeps frames: each is known by the path that leads to it and by what is in it.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "analysis/diagnosis_rules.h"
#include "pyobj/containers.h"
#include "pyobj/values.h"
#include "support/units.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kManyItems = 100;
constexpr std::uint64_t kMostPercent = 70;      // of what a node retains, that makes it a way and no place
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
        reader_(process.snapshot.space),
        values_(process.snapshot, *process.runtime(), *holders.graph.census.types, {values, 10}, findings),
        paths(process, holders.graph, values, findings) {}

  // From the top of the tree down: through what leads to names (modules, classes) to all that is large there; through
  // other objects as long as one part is most of what they retain, as accumulation_point() does.
  std::vector<Pile> piles(std::uint64_t least_bytes) {
    std::vector<Pile> found;
    std::vector<NodeId> pending;
    for (const NodeId node : retained_.top) {
      if (retained_.bytes[node] < least_bytes) break;  // the largest come first
      pending.push_back(node);
    }
    while (!pending.empty()) {
      const NodeId node = pending.back();
      pending.pop_back();
      std::uint64_t rest = retained_.bytes[node];
      std::uint64_t largest = 0;
      std::vector<NodeId> large;
      for (const NodeId child : retained_.children.row(node)) {
        if (retained_.bytes[child] < least_bytes) continue;
        largest = std::max(largest, retained_.bytes[child]);
        rest -= retained_.bytes[child];
        large.push_back(child);
      }
      const bool descend =
          !large.empty() && (is_namespace(node) || largest >= retained_.bytes[node] / 100 * kMostPercent);
      if (descend) pending.insert(pending.end(), large.begin(), large.end());
      const std::uint64_t bytes = descend ? rest : retained_.bytes[node];
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
      if (depth > 0 && !is_instance(below.type_id)) break;
      best = std::move(below);
      if (!is_container(best.type_id)) break;
      from = best.group.members;
    }
    best.group.members.clear();
    return best;
  }

  Owner owner(NodeId node, const HolderPath& path) const {
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

  bool is_container(TypeId type) const {
    if (type == kNoType) return false;
    const Kind kind = graph_.census.types->info(type).kind;
    return kind == Kind::kDict || kind == Kind::kOrderedDict || kind == Kind::kDefaultDict || kind == Kind::kList ||
           kind == Kind::kTuple || kind == Kind::kSet || kind == Kind::kDeque;
  }
  bool holds_in_container(const Pile& pile) const { return is_container(blocks_.type(pile.holder)); }

  // Of a class that Python code defines, and not of a container.
  bool is_instance(TypeId type) const {
    return type != kNoType && graph_.census.types->info(type).kind == Kind::kInstance;
  }

  std::string maxsize(NodeId cache) {
    for (const ValuePart& field : values_.describe(blocks_.address(cache)).fields) {
      if (field.name == "maxsize") return field.text;
    }
    return "?";
  }

  // The type of an object of the program's own that the first key of an lru_cache's dict holds; empty if there is none.
  std::string kept_by_keys(NodeId dict) {
    ContainerReader containers(reader_, process_.runtime()->traits, 1);
    const Items items = containers.dict(blocks_.address(dict));
    const NodeId key = items.items.empty() ? kNoNode : blocks_.find_object(items.items[0].key);
    if (key == kNoNode) return "";
    for (const NodeId part : graph_.out.row(key)) {
      if (blocks_.is_object(part) && is_instance(blocks_.type(part))) return graph_.type_name(part);
    }
    return "";
  }

  // Of a pile, what is there because tracebacks are: they hold the frames of calls that are over, and those their
  // locals.
  std::uint64_t tracebacks_hold(const Pile& pile) const {
    std::uint64_t bytes = 0;
    std::vector<std::pair<NodeId, int>> pending{{pile.point, 0}};
    for (std::size_t at = 0; at < pending.size() && at < kMostLooked; ++at) {
      const auto [node, depth] = pending[at];
      for (const NodeId child : retained_.children.row(node)) {
        if (blocks_.is_object(child) && kind_at(child) == Kind::kTraceback) {
          bytes += retained_.bytes[child];
        } else if (depth < kMaxNested) {
          pending.emplace_back(child, depth + (blocks_.is_object(child) ? 1 : 0));
        }
      }
    }
    return bytes;
  }

 private:
  Kind kind_at(NodeId node) const {
    if (!blocks_.is_object(node)) return Kind::kUnknown;
    return graph_.census.types->info(blocks_.type(node)).kind;
  }

  // A module, a class, the dict of one, or its table.
  bool is_namespace(NodeId node) {
    node = object_above(node);
    if (node == kNoNode) return true;
    const Kind kind = kind_at(node);
    if (kind == Kind::kModule || kind == Kind::kType || kind == Kind::kClassicClass) return true;
    if (kind != Kind::kDict) return false;
    const HolderPath path = paths.path(node);
    return !path.steps.empty() && HolderPaths::leads_to_names(path.steps.back().edge);
  }

  NodeId object_above(NodeId node) const {
    while (node < blocks_.size() && !blocks_.is_object(node)) node = retained_.tree.idom[node];
    return node < blocks_.size() ? node : kNoNode;
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
  Reader reader_;
  ValueReader values_;

 public:
  HolderPaths paths;
};

// What is known of a pile, for the rules.
struct Suspect {
  Pile pile;
  Addr address = 0;  // of the holder
  HolderPath path;
  std::string text;  // of the path
  std::string type;  // of the holder
  Owner owner;
  PileItems items;
  std::string maxsize;    // of an lru_cache; else empty
  std::string keys_keep;  // the type of what an lru_cache's keys hold, where that is of the program's own

  std::string held() const {
    return items.group.count == 0 ? type : fmt::format("{} {}", count_text(items.group.count), items.type);
  }
};

void registry(const Suspect& suspect, Diagnosis& found) {
  const bool on_class = suspect.owner.kind == Owner::Kind::kClass;
  found.code = "static-registry";
  found.title = fmt::format("{} holds {}, which retain {}", suspect.text, suspect.held(), bytes_text(found.bytes));
  found.evidence.push_back(fmt::format("the {} is {} of a {}, so it lives as long as the program", suspect.type,
                                       on_class ? "an attribute" : "a global", on_class ? "class" : "module"));
  found.evidence.push_back(fmt::format("nothing but {} leads to these {} {}: taken from it, they would go",
                                       suspect.text, count_text(suspect.items.group.count), suspect.items.type));
  found.advice = fmt::format(
      "If {} is to find objects that others use, make it a weakref.WeakValueDictionary (or WeakSet); else take each "
      "{} out of it when it is done with, or bound it.",
      suspect.text, suspect.items.type);
}

void lru_cache(const Suspect& suspect, Diagnosis& found) {
  const bool bounded = suspect.maxsize != "None";
  found.code = "unbounded-cache";
  if (bounded) found.severity = Severity::kMedium;
  found.title = fmt::format("the cache of {} keeps {}{}: {}", suspect.text, suspect.held(),
                            bounded ? "" : " and has no bound", bytes_text(found.bytes));
  found.evidence.push_back("functools.lru_cache with maxsize=" + suspect.maxsize);
  if (!suspect.keys_keep.empty())
    found.evidence.push_back(fmt::format("its keys hold {}: a method's cache keeps every self", suspect.keys_keep));
  found.advice = bounded ? "Lower its maxsize, or cache what is smaller."
                         : "Give it a maxsize, or call cache_clear() when what it holds is out of date.";
  if (!suspect.keys_keep.empty())
    found.advice +=
        " On a method, cache on the instance (functools.cached_property) or in a function that takes what "
        "it needs and not self.";
}

void container(const Suspect& suspect, Diagnosis& found) {
  found.code = "unbounded-cache";
  found.severity = Severity::kMedium;
  found.title = fmt::format("{} keeps {}: {}", suspect.text, suspect.held(), bytes_text(found.bytes));
  found.evidence.push_back(fmt::format("nothing but this {} leads to them", suspect.type));
  found.evidence.emplace_back("one core does not tell whether it still grows: two, and `heapcore diff`, do");
  found.advice = fmt::format(
      "If it is a cache, bound {} (functools.lru_cache with a maxsize, "
      "collections.deque(maxlen=...)); if it collects results, write them out and empty it.",
      suspect.text);
}

void traceback(const Suspect& suspect, Diagnosis& found) {
  found.code = "traceback-pins-frames";
  found.title = fmt::format("{} keeps {}, whose tracebacks hold the frames of calls that are over: {}", suspect.text,
                            suspect.held(), bytes_text(found.bytes));
  found.evidence.emplace_back("a frame holds every local that it had when the exception passed through it");
  found.advice =
      "Keep no exception longer than it is handled: keep str(e) or traceback.format_exc(), or clear it "
      "(e.__traceback__ = None, traceback.clear_frames()).";
}

void query_log(const Suspect& suspect, Diagnosis& found) {
  found.code = "debug-query-log";
  found.title = fmt::format("{} records every query: {}", suspect.text, bytes_text(found.bytes));
  found.evidence.push_back("it holds " + suspect.held());
  found.advice = "Switch debugging off (Django: DEBUG = False), or call reset_queries() after each piece of work.";
}

void dominant(const Suspect& suspect, Diagnosis& found) {
  found.code = "dominant-holder";
  found.severity = Severity::kLow;  // it may well be what the program is for
  found.title = fmt::format("{} retains {}", suspect.text, bytes_text(found.bytes));
  if (suspect.items.group.count != 0) found.evidence.push_back("most of it is " + suspect.held());
  found.evidence.push_back(fmt::format("it is a {}; all of this would go with it", suspect.type));
  found.advice = fmt::format(
      "Where it is no longer needed, let go of it; `heapcore retained TARGET {:#x}` shows what "
      "is in it.",
      suspect.address);
}

using Rule = void (*)(const Suspect&, Diagnosis&);

Rule rule_for(const Suspect& suspect, const PileFinder& finder) {
  const Owner::Kind owner = suspect.owner.kind;
  if (owner == Owner::Kind::kLruCache) return lru_cache;
  if (owner == Owner::Kind::kTraceback) return traceback;
  if (suspect.text.ends_with(".queries_log")) return query_log;
  if (finder.tracebacks_hold(suspect.pile) >= suspect.pile.bytes / 100 * kItemsPercent) return traceback;
  const bool long_lived = owner == Owner::Kind::kClass || owner == Owner::Kind::kModule;
  const bool many = suspect.items.group.count >= kManyItems && finder.holds_in_container(suspect.pile);
  if (!long_lived || !many) return dominant;
  return finder.is_instance(suspect.items.type_id) ? registry : container;
}

}  // namespace

void Rules::holders() {
  const HeapGraph& graph = incident_.holders->graph;
  PileFinder finder(process_, *incident_.holders, options_.values, findings_);
  for (const Pile& pile : finder.piles(least_bytes())) {
    if (pile.holder == kNoNode) continue;
    Suspect suspect;
    suspect.pile = pile;
    suspect.address = graph.blocks.address(pile.holder);
    suspect.path = finder.paths.path(pile.holder);
    if (suspect.path.root == RootKind::kUnreachable) continue;  // garbage, of which the cycles' rule speaks
    suspect.text = suspect.path.text();
    suspect.type = graph.type_name(pile.holder);
    suspect.owner = finder.owner(pile.holder, suspect.path);
    suspect.items = finder.items(pile);
    if (suspect.owner.kind == Owner::Kind::kLruCache) {
      suspect.text = finder.paths.path(suspect.owner.node).text();
      suspect.maxsize = finder.maxsize(suspect.owner.node);
      suspect.keys_keep = finder.kept_by_keys(pile.holder);
    }
    Diagnosis found;
    found.bytes = pile.bytes;
    found.severity = severity(pile.bytes);
    found.objects.push_back(suspect.address);
    rule_for(suspect, finder)(suspect, found);
    found.evidence.push_back(fmt::format("{} at {:#x}: {}", suspect.type, suspect.address, share(pile.bytes)));
    if (const NodeId example = suspect.items.group.example; example != kNoNode) {
      found.evidence.push_back("such as " + finder.paths.path(example).text());
      found.objects.push_back(graph.blocks.address(example));
    }
    found_.push_back(std::move(found));
  }
}

}  // namespace heapcore

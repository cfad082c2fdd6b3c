// What holds much: where in the dominator tree memory piles up, and what that place is. A registry on a class, a cache
// that nobody bounds, a traceback that keeps frames: each is known by the path that leads to it and by what is in it.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "analysis/diagnosis_rules.h"
#include "analysis/piles.h"
#include "support/units.h"

namespace heapcore {
namespace {

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
  std::string owner_type;
  std::string queue_type;          // of the queue whose items they are; else empty
  std::uint64_t dict_entries = 0;  // of a dict

  std::string held() const {
    if (items.group.count == 0) return type;
    const char* keys_too = dict_entries != 0 && items.group.count > dict_entries ? ", keys and values" : "";
    return fmt::format("{} {}{}", count_text(items.group.count), items.type, keys_too);
  }
  bool has_name() const { return owner.kind == Owner::Kind::kClass || owner.kind == Owner::Kind::kModule; }
};

// What holds them for good, of what has no name of its own.
std::string keeper(const Suspect& suspect) {
  return suspect.owner_type.empty()
             ? fmt::format("no call in progress holds the {}", suspect.type)
             : fmt::format("the {} belongs to a {}, which no call in progress holds", suspect.type, suspect.owner_type);
}

void registry(const Suspect& suspect, Diagnosis& found) {
  const bool on_class = suspect.owner.kind == Owner::Kind::kClass;
  found.code = "static-registry";
  found.title = fmt::format("{} holds {}, which retain {}", suspect.text, suspect.held(), bytes_text(found.bytes));
  if (suspect.has_name()) {
    found.evidence.push_back(fmt::format("the {} is {} of a {}, so it lives as long as the program", suspect.type,
                                         on_class ? "an attribute" : "a global", on_class ? "class" : "module"));
  } else {
    found.severity = Severity::kMedium;
    found.evidence.push_back(keeper(suspect));
  }
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
  if (!suspect.has_name()) found.evidence.push_back(keeper(suspect));
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
  if (suspect.pile.is_chain)
    found.evidence.emplace_back("what it holds leads from one to the next, as in a linked list");
  if (suspect.items.group.count > 1) found.evidence.push_back("most of it is " + suspect.held());
  found.evidence.push_back(fmt::format("it is a {}; all of this would go with it", suspect.type));
  found.advice = fmt::format(
      "Where it is no longer needed, let go of it; `heapcore retained TARGET {:#x}` shows what "
      "is in it.",
      suspect.address);
}

void queue(const Suspect& suspect, Diagnosis& found) {
  container(suspect, found);
  found.title = fmt::format("{} holds {} that nobody took: {}", suspect.text, suspect.held(), bytes_text(found.bytes));
  found.evidence.push_back("they wait in a " + suspect.queue_type);
  found.advice =
      "See whether what takes from it still runs (`heapcore threads`), and give it a maxsize, so that who puts more in "
      "than is taken out has to wait.";
}

// Objects of which each is held by several, or by C code; nothing where each is held by something else.
std::optional<Diagnosis> held_together(PileFinder& finder, NodeId point, const PileItems& items) {
  const Ways ways = finder.ways_to(items.group);
  if (ways.texts.empty() && point == kNoNode) return std::nullopt;
  const HolderPath path = finder.paths.path(ways.example);
  const bool registry = finder.is_instance(items.type_id) && finder.owner(ways.example, path).outlives_calls;
  Diagnosis found;
  found.code = registry ? "static-registry" : "dominant-holder";
  found.severity = registry ? Severity::kMedium : Severity::kLow;
  found.bytes = items.group.retained_bytes;
  const std::string holders =
      ways.texts.empty() ? finder.paths.path(point).text() : fmt::format("{}", fmt::join(ways.texts, " and "));
  found.title = fmt::format("{} {} {} {}, which retain {}", holders, ways.texts.size() > 1 ? "together hold" : "holds",
                            count_text(items.group.count), items.type, bytes_text(found.bytes));
  if (ways.texts.size() > 1)
    found.evidence.emplace_back("each of them is held by several: it goes when the last lets go of it");
  found.evidence.push_back("such as " + path.text());
  found.objects.push_back(finder.address(ways.example));
  found.advice = fmt::format(
      "Take what is done with out of all that holds it, or let all but one hold it weakly "
      "(weakref.WeakValueDictionary, "
      "WeakSet); `heapcore paths TARGET {:#x}` shows what holds one of these {}.",
      found.objects.front(), items.type);
  return found;
}

using Rule = void (*)(const Suspect&, Diagnosis&);

Rule rule_for(const Suspect& suspect, const PileFinder& finder) {
  if (suspect.owner.kind == Owner::Kind::kLruCache) return lru_cache;
  if (suspect.owner.kind == Owner::Kind::kTraceback) return traceback;
  if (suspect.text.ends_with(".queries_log")) return query_log;
  if (finder.tracebacks_hold(suspect.pile) >= suspect.pile.bytes / 100 * kItemsPercent) return traceback;
  const bool many = suspect.items.group.count >= kManyItems && finder.holds_in_container(suspect.pile);
  if (many && !suspect.queue_type.empty()) return queue;
  if (!many || !suspect.owner.outlives_calls) return dominant;
  return finder.is_instance(suspect.items.type_id) ? registry : container;
}

}  // namespace

void Rules::holders() {
  const HeapGraph& graph = incident_.holders->graph;
  PileFinder finder(process_, *incident_.holders, options_.values, findings_);
  const auto together = [&](NodeId point) {
    bool any = false;
    for (const PileItems& items : finder.held_together(point, least_bytes())) {
      std::optional<Diagnosis> found = held_together(finder, point, items);
      any = any || found;
      if (found) found_.push_back(*std::move(found));
    }
    return any;
  };
  for (const Pile& pile : finder.piles(least_bytes())) {
    if (finder.is_namespace(pile.point) && (together(pile.point) || pile.holder == kNoNode)) continue;
    Suspect suspect;
    suspect.pile = pile;
    suspect.address = graph.blocks.address(pile.holder);
    suspect.path = finder.paths.path(pile.holder);
    if (suspect.path.root == RootKind::kUnreachable) continue;  // garbage, of which the cycles' rule speaks
    suspect.text = suspect.path.text();
    suspect.type = graph.type_name(pile.holder);
    suspect.owner = finder.owner(pile.holder, suspect.path);
    suspect.items = finder.items(pile);
    suspect.dict_entries = finder.entries(pile.holder);
    if (suspect.owner.node != kNoNode) suspect.owner_type = graph.type_name(suspect.owner.node);
    for (const NodeId node : {pile.holder, suspect.owner.node}) {
      if (finder.is_queue(node)) suspect.queue_type = graph.type_name(node);
    }
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
  together(kNoNode);
}

}  // namespace heapcore

// Objects that are in nobody's way but should not be there: cycles that wait for the collector, references that were
// counted and never given back, tasks that pile up.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "analysis/diagnosis_rules.h"
#include "pyobj/builtins_names.h"
#include "support/units.h"

namespace heapcore {
namespace {

constexpr std::size_t kShownCycles = 3;
constexpr std::size_t kShownWaste = 3;
constexpr std::uint64_t kSmallPart = 20;   // of the whole; less is no evidence
constexpr std::uint64_t kLeastLost = 100;  // objects of a type; interpreters and libraries lose a few themselves
constexpr std::uint64_t kManyLost = 1000;  // are said, however small
constexpr std::uint64_t kLostBytes = 1 << 20;
constexpr std::uint64_t kLeastTasks = 1000;  // that stand at one place

// The edge at which a cycle is best cut: the one that closes it, if a class of the program's own has it; else such a
// class's last in the cycle.
std::string edge_to_cut(const CycleGroup& group) {
  for (std::size_t i = group.types.size(); i-- > 0;) {
    const std::string& type = group.types[i];
    const bool own = without_builtins(type) == type && type != "functools.partial";
    if (own && group.edges[i] != ".__dict__") return join_edges({group.types[i], group.edges[i]});
    if (group.edges[i].starts_with("['") && i > 0 && group.edges[i - 1] == ".__dict__")
      return group.types[i - 1] + "." + group.edges[i].substr(2, group.edges[i].size() - 4);
  }
  return group.closing_edge;
}

std::string words_of(WasteKind kind) {
  std::string words(waste_kind_name(kind));
  std::replace(words.begin(), words.end(), '_', ' ');
  return words;
}

const char* remedy(WasteKind kind) {
  switch (kind) {
    case WasteKind::kDuplicateStrings:
      return "Keep one of each: sys.intern() for names and states, a dict of those seen, an Enum, or a categorical "
             "column.";
    case WasteKind::kInstanceDicts:
      return "Give the classes __slots__ (or @dataclass(slots=True)); and do not ask for __dict__ where attributes do.";
    case WasteKind::kEmptyContainers:
      return "Make containers when the first item comes (None until then), or share one empty tuple.";
    case WasteKind::kSparseContainers:
      return "Copy a dict or set that has shrunk (d = dict(d)): only a new one gives its room back.";
    case WasteKind::kSpareRoom:
      return "Turn lists that are complete into tuples, bytearrays into bytes.";
    case WasteKind::kBoxedNumbers:
      return "Keep numbers in array.array or numpy arrays: 8 bytes each instead of 24 or more and a pointer.";
  }
  return "";
}

}  // namespace

void Rules::uncollected_cycles() {
  const CyclesAnswer& cycles = incident_.cycles;
  if (!worth_saying(cycles.garbage_retained_bytes)) return;
  std::vector<const CycleGroup*> garbage;
  for (const CycleGroup& group : cycles.groups) {
    if (group.garbage) garbage.push_back(&group);
  }
  const std::uint64_t bytes = cycles.garbage_retained_bytes;
  const std::string what = garbage.empty() ? "objects" : "cycles closed by " + edge_to_cut(*garbage[0]);
  Diagnosis& found = add("uncollected-cycles", severity(bytes), bytes,
                         fmt::format("{} wait for the cyclic collector: {}", bytes_text(bytes), what));
  found.evidence.push_back(fmt::format("{} that nothing in use refers to would be freed by gc.collect(): {}",
                                       counted(cycles.garbage.count, "object"), share(bytes)));
  for (std::size_t i = 0; i < std::min(garbage.size(), kShownCycles); ++i) {
    const CycleGroup& group = *garbage[i];
    if (i > 0 && group.retained_bytes < bytes / kSmallPart) break;
    found.evidence.push_back(fmt::format("{} of the shape {}, retaining {}; the edge that closes it: {}",
                                         counted(group.count, "cycle"), group.text(), bytes_text(group.retained_bytes),
                                         edge_to_cut(group)));
    found.objects.push_back(group.example);
  }
  for (std::size_t i = 0; i < std::min(cycles.garbage_types.size(), kShownCycles); ++i) {
    const GarbageType& type = cycles.garbage_types[i];
    found.evidence.push_back(fmt::format("among them {} {}.{}{}", count_text(type.total.count), type.module, type.name,
                                         type.has_finalizer ? ", which has a __del__" : ""));
  }
  if (!cycles.gc_enabled) found.evidence.emplace_back("the collector is switched off (gc.disable())");
  const std::string first =
      cycles.gc_enabled ? "Call gc.collect() at a quiet moment" : "Call gc.enable(), or gc.collect() at quiet moments";
  const bool classes = !garbage.empty() && without_builtins(garbage[0]->closing_edge).starts_with("type.");
  found.advice =
      garbage.empty() ? first + "."
      : classes
          ? first +
                "; better, make each class once and keep it: a class refers to itself by its __mro__, so that only the "
                "collector can free it."
          : fmt::format("{}; better, let there be no cycle: hold {} by a weakref.ref, or clear it when done.", first,
                        edge_to_cut(*garbage[0]));
}

void Rules::lost_references() {
  struct Lost {
    std::uint64_t count = 0;
    std::uint64_t retained_bytes = 0;
    NodeId example = kNoNode;
  };
  const HeapGraph& graph = incident_.holders->graph;
  const Retained& retained = incident_.holders->retained;
  const std::vector<bool> is_lost = lost_objects(graph);
  std::map<std::string, Lost> types;
  for (NodeId node = 0; node < graph.blocks.objects(); ++node) {
    if (!is_lost[node]) continue;
    Lost& lost = types[graph.type_name(node)];
    if (lost.count++ == 0) lost.example = node;
    lost.retained_bytes += retained.bytes[node];
  }
  for (const auto& [name, lost] : types) {
    if (lost.count < kLeastLost || (lost.count < kManyLost && lost.retained_bytes < kLostBytes)) continue;
    const std::uint64_t bytes = lost.retained_bytes;
    Diagnosis& found =
        add("lost-references", worth_saying(bytes) ? severity(bytes) : Severity::kLow, bytes,
            fmt::format("{} {} are held by nobody and never freed: a missing Py_DECREF", count_text(lost.count), name));
    found.evidence.push_back(fmt::format("with what they hold: {}", share(bytes)));
    found.evidence.emplace_back(
        "their reference counts are above 0, and neither objects, frames, stacks, static data nor native blocks refer "
        "to them");
    found.advice = fmt::format(
        "Look for the C extension (or ctypes code) that handles {} and does not give back its reference; `heapcore "
        "audit TARGET` lists the objects.",
        name);
    found.objects.push_back(graph.blocks.address(lost.example));
  }
}

void Rules::task_pileup() {
  struct Pile {
    std::uint64_t count = 0;
    std::uint64_t retained_bytes = 0;
    std::map<std::string, std::uint64_t> waits_for;
    Addr example = 0;
  };
  std::map<std::string, Pile> piles;
  for (const TaskRow& task : incident_.threads.tasks) {
    Pile& pile = piles[task.place ? task.place->text() : "an unknown place"];
    if (pile.count++ == 0) pile.example = task.address;
    pile.retained_bytes += task.retained_bytes;
    ++pile.waits_for[task.waits_for_type];
  }
  for (const auto& [place, pile] : piles) {
    if (pile.count < kLeastTasks && !(pile.count > 1 && worth_saying(pile.retained_bytes))) continue;
    const std::uint64_t bytes = pile.retained_bytes;
    Diagnosis& found = add("task-pileup", worth_saying(bytes) ? severity(bytes) : Severity::kLow, bytes,
                           fmt::format("{} wait at {}", counted(pile.count, "asyncio task"), place));
    found.evidence.push_back(fmt::format("they retain {}", share(bytes)));
    const auto most = std::max_element(pile.waits_for.begin(), pile.waits_for.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    if (most != pile.waits_for.end() && !most->first.empty())
      found.evidence.push_back(fmt::format("{} of them wait for a {}", count_text(most->second), most->first));
    found.advice =
        "Bound how many run at once (asyncio.Semaphore, a queue with maxsize), and give what they wait for "
        "a timeout (asyncio.timeout).";
    found.objects.push_back(pile.example);
  }
}

void Rules::waste() {
  const WasteAnswer& waste = *incident_.waste;
  const std::uint64_t bytes = waste.total.wasted_bytes;
  if (!worth_saying(bytes)) return;
  std::size_t most = 0;
  std::string kinds;
  for (std::size_t kind = 0; kind < kWasteKinds; ++kind) {
    const WasteFigures& figures = waste.by_kind[kind];
    if (figures.wasted_bytes > waste.by_kind[most].wasted_bytes) most = kind;
    if (figures.wasted_bytes < bytes / kSmallPart) continue;
    kinds += fmt::format("{}{} {}", kinds.empty() ? "" : ", ", words_of(static_cast<WasteKind>(kind)),
                         bytes_text(figures.wasted_bytes));
  }
  Diagnosis& found = add("waste", Severity::kMedium, bytes,
                         fmt::format("the same contents would do without {}: {}", bytes_text(bytes), kinds));
  found.evidence.push_back(fmt::format("of {} in {} looked at, {} need not be there", bytes_text(waste.total.bytes),
                                       counted(waste.total.count, "object"), share(bytes)));
  for (std::size_t i = 0; i < std::min(waste.waste.size(), kShownWaste); ++i) {
    const WasteRow& row = waste.waste[i];
    if (row.figures.wasted_bytes < bytes / kSmallPart) break;
    found.evidence.push_back(fmt::format(
        "{} of {} {}{}, such as {}: {}", words_of(row.kind), count_text(row.figures.count), row.type,
        row.held_by.empty() ? "" : ", held by " + row.held_by, row.path, bytes_text(row.figures.wasted_bytes)));
    if (!row.objects.empty()) found.objects.push_back(row.objects.front());
  }
  found.advice = remedy(static_cast<WasteKind>(most));
}

}  // namespace heapcore

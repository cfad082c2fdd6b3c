// Objects that are in nobody's way but should not be there: cycles that wait for the collector, references that were
// counted and never given back, tasks that pile up.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "analysis/diagnosis_rules.h"
#include "support/units.h"

namespace heapcore {
namespace {

constexpr std::size_t kShownCycles = 3;
constexpr std::uint64_t kLeastLost = 100;    // objects
constexpr std::uint64_t kLeastTasks = 1000;  // that stand at one place

}  // namespace

void Rules::uncollected_cycles() {
  const CyclesAnswer& cycles = incident_.cycles;
  if (!worth_saying(cycles.garbage_retained_bytes)) return;
  std::vector<const CycleGroup*> garbage;
  for (const CycleGroup& group : cycles.groups) {
    if (group.garbage) garbage.push_back(&group);
  }
  const std::uint64_t bytes = cycles.garbage_retained_bytes;
  const std::string what = garbage.empty() ? "objects" : fmt::format("cycles closed by {}", garbage[0]->closing_edge);
  Diagnosis& found = add("uncollected-cycles", severity(bytes), bytes,
                         fmt::format("{} wait for the cyclic collector: {}", bytes_text(bytes), what));
  found.evidence.push_back(fmt::format("{} that nothing in use refers to would be freed by gc.collect(): {}",
                                       counted(cycles.garbage.count, "object"), share(bytes)));
  for (std::size_t i = 0; i < std::min(garbage.size(), kShownCycles); ++i) {
    const CycleGroup& group = *garbage[i];
    found.evidence.push_back(fmt::format("{} of the shape {}, retaining {}; the edge that closes it: {}",
                                         counted(group.count, "cycle"), group.text(), bytes_text(group.retained_bytes),
                                         group.closing_edge));
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
  found.advice =
      garbage.empty()
          ? first + "."
          : fmt::format("{}; better, let there be no cycle: hold {} by a weakref.ref, or clear it when done.", first,
                        garbage[0]->closing_edge);
}

void Rules::lost_references() {
  for (const AuditRow& row : incident_.audit.types) {
    if (row.lost < kLeastLost) continue;
    std::uint64_t retained = 0;
    for (const RetainedGroup& group : incident_.retained.types) {
      if (group.module + "." + group.name == row.type || group.name == row.type) retained = group.retained_bytes;
    }
    const std::uint64_t bytes = std::max(row.bytes, std::min(retained, own_bytes_));
    Diagnosis& found = add("lost-references", worth_saying(bytes) ? severity(bytes) : Severity::kMedium, bytes,
                           fmt::format("{} of type {} are held by nobody and never freed: a missing Py_DECREF",
                                       counted(row.lost, "object"), row.type));
    found.evidence.push_back(fmt::format("{} references too many are counted on {} of them", count_text(row.excess),
                                         counted(row.count, "object")));
    found.evidence.emplace_back("neither objects, frames, stacks, static data nor native blocks explain them");
    found.advice = fmt::format(
        "Look for the C extension (or ctypes code) that handles {} and forgets to give back a "
        "reference; `heapcore audit` lists the objects.",
        row.type);
    found.objects.push_back(row.example);
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
    Diagnosis& found = add("task-pileup", severity(bytes), bytes,
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

}  // namespace heapcore

#include "space_commands.h"

#include "analysis/fragmentation.h"
#include "analysis/pins.h"
#include "analysis/waste.h"
#include "report/space_answers.h"
#include "terminal.h"

namespace heapcore {

Answer answer_map(const Options& options, Process& process, Progress& progress, Timings& timings,
                  const TextStyle& style) {
  const FragmentationMap map = timings.time("walk", [&] { return map_memory(process, progress, process.findings); });
  const MapStyle how = {options.by_address ? MapOrder::kAddress : MapOrder::kLive, terminal_width()};
  return {map_json(map, how, options.limit.value_or(0)), map_text(map, how, style)};
}

Answer answer_pins(const Options& options, Process& process, Progress& progress, Timings& timings,
                   const TextStyle& style) {
  PinsOptions how;
  how.below_percent = static_cast<unsigned>(options.below_percent);
  how.limit = options.limit.value_or(how.limit);
  how.values = options.values;
  const Holders holders = find_holders(process, progress, process.findings, timings);
  Findings reported_by_census;
  const FragmentationMap map = timings.time("walk", [&] { return map_memory(process, progress, reported_by_census); });
  const PinsAnswer answer =
      timings.time("pins", [&] { return find_pins(process, holders, map, how, process.findings); });
  return {pins_json(answer), pins_text(answer, style)};
}

Answer answer_waste(const Options& options, Process& process, Progress& progress, Timings& timings,
                    const TextStyle& style) {
  WasteOptions how;
  how.limit = options.limit.value_or(how.limit);
  how.values = options.values;
  const HeapGraph graph = link_heap(process, progress, process.findings, timings);
  const WasteAnswer answer = timings.time("waste", [&] { return find_waste(process, graph, how, process.findings); });
  return {waste_json(answer), waste_text(answer, style)};
}

}  // namespace heapcore

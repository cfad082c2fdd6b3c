#include <fmt/format.h>

#include "report/format.h"
#include "report/holder_answers.h"
#include "report/json_parts.h"
#include "report/text_parts.h"

namespace heapcore {
namespace {

std::string groups_text(const CyclesAnswer& answer, bool garbage) {
  TextTable table({{"retained", Align::kRight},
                   {"bytes", Align::kRight},
                   {"blocks", Align::kRight},
                   {"cycles", Align::kRight},
                   {"an object", Align::kLeft},
                   {"", Align::kLeft},
                   {"cycle", Align::kLeft}});
  bool any = false;
  for (const CycleGroup& group : answer.groups) {
    if (group.garbage != garbage) continue;
    any = true;
    table.add({bytes_text(group.retained_bytes), bytes_text(group.bytes), count_text(group.objects),
               count_text(group.count), address_text(group.example),
               group.garbage || group.reachable ? "" : "unreachable", printable(group.text())});
  }
  return any ? table.text("  ") : "  none\n";
}

std::string garbage_text(const CyclesAnswer& answer) {
  std::string text = fmt::format("  {}, {}; {} with what only they hold\n", counted(answer.garbage.count, "object"),
                                 bytes_text(answer.garbage.bytes), bytes_text(answer.garbage_retained_bytes));
  if (!answer.gc_enabled) text += "  the collector is switched off\n";
  if (answer.frozen != 0)
    text += fmt::format("  {} put aside by gc.freeze(), at which it does not look\n", counted(answer.frozen, "object"));
  if (answer.gc_garbage_count != 0) {
    text += fmt::format("  gc.garbage at {} holds {} more, found before and not freed\n",
                        address_text(answer.gc_garbage), counted(answer.gc_garbage_count, "object"));
  }
  if (!answer.generations.empty()) {
    std::string each;
    for (const Generation& generation : answer.generations) {
      each += fmt::format("{}{} of {}", each.empty() ? "" : ", ", count_text(generation.garbage),
                          count_text(generation.tracked));
    }
    text += fmt::format("  by generation, the youngest first: {}\n", each);
  }
  if (answer.garbage_types.empty()) return text;
  TextTable table({{"count", Align::kRight}, {"bytes", Align::kRight}, {"type", Align::kLeft}});
  for (const GarbageType& type : answer.garbage_types) {
    table.add({count_text(type.total.count), bytes_text(type.total.bytes),
               printable(type.module.empty() ? type.name : type.module + "." + type.name) +
                   (type.has_finalizer ? " (has a __del__)" : "")});
  }
  text += table.text("  ");
  if (answer.garbage_types.size() < answer.garbage_types_count) {
    text += fmt::format("  ({} more; --limit 0 shows all)\n",
                        counted(answer.garbage_types_count - answer.garbage_types.size(), "type"));
  }
  return text;
}

}  // namespace

Json cycles_json(const CyclesAnswer& answer) {
  Json groups = Json::array();
  for (const CycleGroup& group : answer.groups) {
    groups.push_back({{"types", group.types},
                      {"edges", group.edges},
                      {"closing_edge", group.closing_edge},
                      {"text", group.text()},
                      {"reachable", group.reachable},
                      {"garbage", group.garbage},
                      {"count", group.count},
                      {"objects", group.objects},
                      {"bytes", group.bytes},
                      {"retained_bytes", group.retained_bytes},
                      {"example", address_text(group.example)}});
  }
  Json types = Json::array();
  for (const GarbageType& type : answer.garbage_types) {
    types.push_back({{"module", type.module},
                     {"name", type.name},
                     {"count", type.total.count},
                     {"bytes", type.total.bytes},
                     {"has_finalizer", type.has_finalizer}});
  }
  Json generations = Json::array();
  for (const Generation& generation : answer.generations)
    generations.push_back({{"tracked", generation.tracked}, {"garbage", generation.garbage}});
  return {{"cycles", std::move(groups)},
          {"cycles_count", answer.groups_count},
          {"garbage",
           {{"count", answer.garbage.count},
            {"bytes", answer.garbage.bytes},
            {"retained_bytes", answer.garbage_retained_bytes},
            {"types", std::move(types)},
            {"types_count", answer.garbage_types_count}}},
          {"generations", std::move(generations)},
          {"gc_garbage", answer.gc_garbage == 0
                             ? Json(nullptr)
                             : Json{{"address", address_text(answer.gc_garbage)}, {"count", answer.gc_garbage_count}}},
          {"frozen", answer.frozen},
          {"gc_enabled", answer.gc_enabled}};
}

std::string cycles_text(const CyclesAnswer& answer, const TextStyle& style) {
  std::string text = heading("Uncollected garbage", style) + garbage_text(answer);
  text += heading("Cycles in it", style) + groups_text(answer, true);
  text += heading("Cycles in use", style) + groups_text(answer, false);
  if (answer.groups.size() < answer.groups_count) {
    text += fmt::format("  ({} of other shapes; --limit 0 shows all)\n",
                        count_text(answer.groups_count - answer.groups.size()));
  }
  return text;
}

}  // namespace heapcore

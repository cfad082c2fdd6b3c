#include <fmt/format.h>

#include "report/format.h"
#include "report/json_parts.h"
#include "report/space_answers.h"
#include "report/text_parts.h"

namespace heapcore {
namespace {

Json totals_json(const PinTotals& totals) {
  return {{"arenas", totals.arenas},
          {"bytes", totals.bytes},
          {"kept_bytes", totals.kept_bytes},
          {"live_bytes", totals.live_bytes},
          {"blocks", totals.blocks}};
}

std::string places(MapAllocator allocator, std::uint64_t count) {
  return counted(count, allocator == MapAllocator::kObmalloc ? "arena" : "page");
}

// "480 __main__.TaskResult objects (23.0 KiB) keep 212 MiB from going back".
std::string sentence(const PinGroup& pin) {
  const std::string what =
      pin.type == "raw block" ? counted(pin.count, "raw block") : counted(pin.count, printable(pin.type) + " object");
  return fmt::format("{} ({} live) {} {} from going back", what, bytes_text(pin.bytes),
                     pin.count == 1 ? "keeps" : "keep", bytes_text(pin.kept_bytes));
}

}  // namespace

Json pins_json(const PinsAnswer& answer) {
  Json pins = Json::array();
  for (const PinGroup& pin : answer.pins) {
    Json objects = Json::array();
    for (const Addr object : pin.objects) objects.push_back(address_text(object));
    pins.push_back({{"allocator", map_allocator_name(pin.allocator)},
                    {"type", pin.type},
                    {"held_by", text_or_null(pin.held_by)},
                    {"count", pin.count},
                    {"bytes", pin.bytes},
                    {"kept_bytes", pin.kept_bytes},
                    {"arenas", pin.arenas},
                    {"alone_in", pin.alone_in},
                    {"alone_bytes", pin.alone_bytes},
                    {"objects", std::move(objects)}});
  }
  Json allocators = Json::array();
  for (const PinTotals& totals : answer.allocators) {
    Json row = {{"allocator", map_allocator_name(totals.allocator)}};
    row.update(totals_json(totals));
    allocators.push_back(std::move(row));
  }
  return {{"below_percent", answer.below_percent},
          {"pins", std::move(pins)},
          {"pins_count", answer.pins_count},
          {"allocators", std::move(allocators)},
          {"total", totals_json(answer.total())}};
}

std::string pins_text(const PinsAnswer& answer, const TextStyle&) {
  if (answer.pins.empty()) {
    return fmt::format("no arena and no page that stays is less than {} % live\n", answer.below_percent);
  }
  std::string text;
  for (const PinTotals& totals : answer.allocators) {
    text += fmt::format("{}: {} less than {} % live, {} in all; {} of it kept by {} live in {}\n",
                        map_allocator_name(totals.allocator), places(totals.allocator, totals.arenas),
                        answer.below_percent, bytes_text(totals.bytes), bytes_text(totals.kept_bytes),
                        bytes_text(totals.live_bytes), counted(totals.blocks, "block"));
  }
  text += "first: " + sentence(answer.pins.front()) + "\n";
  TextTable table({{"keeps", Align::kRight},
                   {"in", Align::kRight},
                   {"alone in", Align::kRight},
                   {"alone keeps", Align::kRight},
                   {"objects", Align::kRight},
                   {"live", Align::kRight},
                   {"allocator", Align::kLeft},
                   {"one of them", Align::kLeft},
                   {"type", Align::kLeft},
                   {"held by", Align::kLeft}});
  for (const PinGroup& pin : answer.pins) {
    table.add({bytes_text(pin.kept_bytes), count_text(pin.arenas), pin.alone_in == 0 ? "-" : count_text(pin.alone_in),
               pin.alone_in == 0 ? "-" : bytes_text(pin.alone_bytes), count_text(pin.count), bytes_text(pin.bytes),
               map_allocator_name(pin.allocator), pin.objects.empty() ? "" : address_text(pin.objects.front()),
               printable(pin.type), pin.held_by.empty() ? "nothing found" : printable(pin.held_by)});
  }
  text += table.text("  ");
  if (answer.pins.size() < answer.pins_count)
    text += fmt::format("  ({} more; --limit 0 shows all)\n", count_text(answer.pins_count - answer.pins.size()));
  return text + "  (where several pin one arena, each would keep it: \"keeps\" does not add up)\n";
}

}  // namespace heapcore

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "report/format.h"
#include "report/json_parts.h"
#include "report/space_answers.h"
#include "report/text_parts.h"

namespace heapcore {
namespace {

constexpr std::size_t kLeastStrip = 16;
constexpr std::size_t kWidestStrip = 256;  // a cell for each page of an arena of 1 MiB
// What the columns before the strip take, at least.
constexpr std::size_t kColumnsBefore = 54;

std::vector<std::uint32_t> in_order(const FragmentationMap& map, MapOrder order) {
  if (order == MapOrder::kLive) return sparsest_arenas(map);
  std::vector<std::uint32_t> indices(map.arenas.size());
  std::iota(indices.begin(), indices.end(), 0U);
  return indices;
}

// How a cell of the strip looks: from what is nearly free but held, to what is full.
struct Look {
  const char* glyph;
  const char* color;  // an ANSI escape
};
constexpr Look kShades[] = {
    {"░", "\x1b[31m"},  // below a quarter
    {"▒", "\x1b[33m"},
    {"▓", "\x1b[32m"},
    {"█", "\x1b[36m"},
};
constexpr Look kFreeLook = {" ", ""};

Look look_of_special(std::uint8_t cell) {
  switch (cell) {
    case map_cell::kNeverUsed:
      return {".", "\x1b[2m"};
    case map_cell::kTop:
      return {"-", "\x1b[2m"};
    case map_cell::kNotDumped:
      return {"?", "\x1b[35m"};
    default:
      return kFreeLook;
  }
}

// Of several cells drawn as one: how much of them is live; if nothing, what most of them are.
Look look_of(const std::uint8_t* first, const std::uint8_t* last) {
  std::uint64_t live = 0;
  std::size_t seen[256] = {};
  for (const std::uint8_t* cell = first; cell != last; ++cell) {
    if (*cell <= map_cell::kFull) live += *cell;
    ++seen[*cell];
  }
  if (live == 0) return look_of_special(static_cast<std::uint8_t>(std::max_element(seen, seen + 256) - seen));
  const std::uint64_t all = static_cast<std::uint64_t>(last - first) * map_cell::kFull;
  return kShades[std::min<std::uint64_t>(3, live * 4 / all)];
}

std::string strip_text(const MapArena& arena, std::size_t columns, bool color) {
  const std::size_t cells = arena.cells.size();
  const std::size_t drawn = std::min(columns, cells);
  std::string text = "|";
  const char* current = "";
  for (std::size_t i = 0; i < drawn; ++i) {
    const Look look = look_of(arena.cells.data() + i * cells / drawn, arena.cells.data() + (i + 1) * cells / drawn);
    if (color && look.color != current) {
      text += *look.color == 0 ? "\x1b[0m" : look.color;
      current = look.color;
    }
    text += look.glyph;
  }
  if (color && *current != 0) text += "\x1b[0m";
  return text + "|";
}

std::string allocators_text(const FragmentationMap& map, const TextStyle& style) {
  std::string text = heading("Held and live", style);
  TextTable table({{"allocator", Align::kLeft},
                   {"arenas", Align::kRight},
                   {"held", Align::kRight},
                   {"live", Align::kRight},
                   {"", Align::kRight},
                   {"free", Align::kRight},
                   {"overhead", Align::kRight},
                   {"wholly free arenas", Align::kRight},
                   {"mmapped chunks", Align::kRight}});
  for (const MapTotals& totals : map.allocators) {
    table.add({map_allocator_name(totals.allocator), count_text(totals.arenas), bytes_text(totals.bytes),
               bytes_text(totals.live_bytes), percent_text(totals.live_bytes, totals.bytes),
               bytes_text(totals.free_bytes), bytes_text(totals.overhead_bytes()), amount(totals.free_arenas),
               amount(totals.mmapped)});
  }
  return text + table.text("  ");
}

std::string occupancy_text(const FragmentationMap& map, const TextStyle& style) {
  std::string text = heading("Arenas by live share", style);
  std::vector<std::pair<std::string, Align>> columns = {{"live", Align::kRight}};
  for (const MapTotals& totals : map.allocators)
    columns.emplace_back(map_allocator_name(totals.allocator), Align::kRight);
  TextTable table(columns);
  for (std::size_t tenth = 0; tenth < kOccupancyClasses; ++tenth) {
    std::vector<std::string> row = {fmt::format("{} to {} %", tenth * 10, tenth * 10 + 10)};
    for (const MapTotals& totals : map.allocators)
      row.push_back(totals.occupancy[tenth] == 0 ? "-" : count_text(totals.occupancy[tenth]));
    table.add(std::move(row));
  }
  return text + table.text("  ");
}

std::string emptying_text(const FragmentationMap& map, const TextStyle& style) {
  std::string text = heading("If the sparsest arenas were emptied", style);
  TextTable table({{"allocator", Align::kLeft},
                   {"sparsest", Align::kRight},
                   {"arenas", Align::kRight},
                   {"would go back", Align::kRight},
                   {"live, to be moved", Align::kRight}});
  for (const MapEmptying& row : map.emptying) {
    table.add({map_allocator_name(row.allocator), fmt::format("{} %", row.percent), count_text(row.arenas),
               bytes_text(row.freed_bytes), bytes_text(row.moved_bytes)});
  }
  return text + table.text("  ");
}

std::string strips_text(const FragmentationMap& map, const MapStyle& how, const TextStyle& style) {
  const char* order = how.order == MapOrder::kLive ? "the sparsest first" : "by address";
  std::string text = heading(fmt::format("Arenas, {}", order), style);
  text +=
      "  \" \" free  ░ below a quarter live  ▒ below half  ▓ below three quarters  █ more\n"
      "  \".\" never used  \"-\" top  \"?\" not in the snapshot\n";
  const std::vector<std::uint32_t> indices = in_order(map, how.order);
  const std::size_t shown = style.limit == 0 ? indices.size() : std::min(style.limit, indices.size());
  const std::size_t room = how.width > kColumnsBefore ? how.width - kColumnsBefore : 0;
  const std::size_t columns = std::clamp(room, kLeastStrip, kWidestStrip);
  TextTable table({{"arena", Align::kLeft},
                   {"allocator", Align::kLeft},
                   {"held", Align::kRight},
                   {"live", Align::kRight},
                   {"", Align::kLeft}});
  for (std::size_t i = 0; i < shown; ++i) {
    const MapArena& arena = map.arenas[indices[i]];
    table.add({address_text(arena.address), map_allocator_name(arena.allocator), bytes_text(arena.bytes),
               percent_text(arena.live_bytes, arena.bytes), strip_text(arena, columns, style.color)});
  }
  text += table.text("  ");
  if (shown < indices.size()) {
    CountBytes left;
    std::uint64_t live = 0;
    for (std::size_t i = shown; i < indices.size(); ++i) {
      left.add(map.arenas[indices[i]].bytes);
      live += map.arenas[indices[i]].live_bytes;
    }
    text += fmt::format("  ({} more: {}, {} of it live; --limit 0 shows all)\n", counted(left.count, "arena"),
                        bytes_text(left.bytes), percent_text(live, left.bytes));
  }
  return text;
}

Json arena_json(const MapArena& arena) {
  std::string pages;
  pages.reserve(arena.cells.size());
  for (const std::uint8_t cell : arena.cells) pages += map_cell_char(cell);
  return {{"address", address_text(arena.address)},
          {"allocator", map_allocator_name(arena.allocator)},
          {"bytes", arena.bytes},
          {"live_bytes", arena.live_bytes},
          {"free_bytes", arena.free_bytes},
          {"cell_bytes", arena.cell_bytes},
          {"pages", std::move(pages)}};
}

}  // namespace

const char* map_allocator_name(MapAllocator allocator) {
  switch (allocator) {
    case MapAllocator::kObmalloc:
      return "obmalloc";
    case MapAllocator::kMimalloc:
      return "mimalloc";
    case MapAllocator::kMalloc:
      return "malloc";
  }
  return "";
}

char map_cell_char(std::uint8_t cell) {
  switch (cell) {
    case map_cell::kFree:
      return '.';
    case map_cell::kNeverUsed:
      return '-';
    case map_cell::kTop:
      return 't';
    case map_cell::kNotDumped:
      return '?';
    default:
      return static_cast<char>('0' + std::min(9, cell * 10 / map_cell::kFull));
  }
}

Json map_json(const FragmentationMap& map, const MapStyle& how, std::size_t limit) {
  Json allocators = Json::array();
  std::array<std::uint64_t, kOccupancyClasses> occupancy{};
  for (const MapTotals& totals : map.allocators) {
    for (std::size_t i = 0; i < kOccupancyClasses; ++i) occupancy[i] += totals.occupancy[i];
    allocators.push_back({{"allocator", map_allocator_name(totals.allocator)},
                          {"arenas", totals.arenas},
                          {"bytes", totals.bytes},
                          {"live_bytes", totals.live_bytes},
                          {"free_bytes", totals.free_bytes},
                          {"overhead_bytes", totals.overhead_bytes()},
                          {"free_arenas", count_bytes(totals.free_arenas)},
                          {"mmapped", count_bytes(totals.mmapped)},
                          {"occupancy", totals.occupancy}});
  }
  Json emptying = Json::array();
  for (const MapEmptying& row : map.emptying) {
    emptying.push_back({{"allocator", map_allocator_name(row.allocator)},
                        {"percent", row.percent},
                        {"arenas", row.arenas},
                        {"freed_bytes", row.freed_bytes},
                        {"moved_bytes", row.moved_bytes}});
  }
  const std::vector<std::uint32_t> indices = in_order(map, how.order);
  Json arenas = Json::array();
  for (std::size_t i = 0; i < indices.size() && (limit == 0 || i < limit); ++i)
    arenas.push_back(arena_json(map.arenas[indices[i]]));
  return {{"page_bytes", map.page_bytes}, {"allocators", std::move(allocators)},
          {"arenas", std::move(arenas)},  {"arenas_count", map.arenas.size()},
          {"occupancy", occupancy},       {"emptying", std::move(emptying)}};
}

std::string map_text(const FragmentationMap& map, const MapStyle& how, const TextStyle& style) {
  if (map.allocators.empty()) return "neither CPython's allocator nor glibc's malloc was found\n";
  std::string text = allocators_text(map, style) + occupancy_text(map, style) + emptying_text(map, style) +
                     strips_text(map, how, style);
  return text.substr(text.find_first_not_of('\n'));
}

}  // namespace heapcore

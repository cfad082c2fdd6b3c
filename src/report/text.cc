#include <fmt/format.h>

#include <algorithm>

#include "pyobj/builtins_names.h"
#include "report/answers.h"
#include "report/format.h"
#include "report/text_parts.h"
#include "report/version.h"

namespace heapcore {
namespace {

constexpr std::size_t kTextColumns = 100;
constexpr std::size_t kTypesShown = 4;  // of a group of the ledger

std::string type_name(const TypeRow& row) {
  return row.module.empty() || is_builtins(row.module) ? row.name : row.module + "." + row.name;
}

std::string row_name(const TypeRow& row, GroupBy by) {
  switch (by) {
    case GroupBy::kType:
      return printable(type_name(row));
    case GroupBy::kModule:
      return row.module.empty() ? "(unknown)" : printable(row.module);
    case GroupBy::kSize:
      return fmt::format("{} to {}", count_text(row.size_from), count_text(row.size_to));
  }
  return "";
}

}  // namespace

std::string build_text(const PythonState& python) {
  const bool debug = python.runtime && python.runtime->traits.debug_build;
  if (python.free_threaded) return debug ? "free-threaded debug" : "free-threaded";
  return debug ? "debug" : "release";
}

std::string obmalloc_line(const ObmallocUse& use) {
  const bool is_mimalloc = use.allocator == std::string_view("mimalloc");
  return fmt::format("  {}  {}, {}: {} in use ({}), {} free in used {}, {} in free {}\n", use.allocator,
                     counted(use.arenas.size(), is_mimalloc ? "segment" : "arena"), bytes_text(use.bytes),
                     bytes_text(use.bytes_in_use), percent_text(use.bytes_in_use, use.bytes),
                     bytes_text(use.bytes_free - use.bytes_free_pools), is_mimalloc ? "pages" : "pools",
                     bytes_text(use.bytes_free_pools), is_mimalloc ? "slices" : "pools");
}

const char* heapcore_version() {
  return HEAPCORE_VERSION;
}

// Of each code the first few in full; findings are sorted by code.
std::string warnings_text(const Findings& findings) {
  constexpr std::uint64_t kShownPerCode = 3;
  std::string text;
  const auto add_line = [&](const std::string& line) { text += wrapped(line, kTextColumns, "    ") + '\n'; };
  std::string_view code;
  std::uint64_t shown = 0;
  const auto end_code = [&] {
    const std::uint64_t seen = findings.count(code);
    if (seen > shown) text += fmt::format("    and {} more like this [{}]\n", count_text(seen - shown), code);
  };
  for (const Finding& finding : findings.kept()) {
    if (finding.code != code) {
      if (shown != 0) end_code();
      code = finding.code;
      shown = 0;
    }
    if (shown == kShownPerCode) continue;
    ++shown;
    const std::string address = finding.address == 0 ? "" : fmt::format(" (at {:#x})", finding.address);
    add_line(fmt::format("{}: {}{} [{}]", finding.incomplete ? "warning" : "note", printable(finding.detail), address,
                         code));
  }
  if (shown != 0) end_code();
  return text;
}

std::string timings_text(const Timings& timings) {
  TextTable table({{"pass", Align::kLeft}, {"ms", Align::kRight}});
  double total = 0;
  for (const Timings::Pass& pass : timings.passes()) {
    table.add({std::string(pass.name), fmt::format("{:.1f}", pass.seconds * 1000)});
    total += pass.seconds;
  }
  table.add({"total", fmt::format("{:.1f}", total * 1000)});
  return table.text();
}

std::string types_text(const TypeRows& types, const TextStyle& style) {
  if (types.rows.empty() && types.selected) return "no objects of types that are called so\n";
  if (types.rows.empty()) return types.tracked_only ? "no tracked Python objects\n" : "no Python objects\n";
  const char* title = types.by == GroupBy::kType ? "type" : types.by == GroupBy::kModule ? "module" : "size in bytes";
  TextTable table(
      {{"count", Align::kRight}, {"bytes", Align::kRight}, {"share", Align::kRight}, {title, Align::kLeft}});
  std::size_t shown = 0;
  CountBytes rest;
  for (const TypeRow& row : types.rows) {
    if (style.limit != 0 && shown == style.limit) {
      rest += row.total;
      continue;
    }
    ++shown;
    table.add({count_text(row.total.count), bytes_text(row.total.bytes),
               percent_text(row.total.bytes, types.total.bytes), row_name(row, types.by)});
  }
  if (shown < types.rows.size()) {
    table.add({count_text(rest.count), bytes_text(rest.bytes), percent_text(rest.bytes, types.total.bytes),
               fmt::format("({} more)", count_text(types.rows.size() - shown))});
  }
  if (types.selected) {
    table.add({count_text(types.selected->count), bytes_text(types.selected->bytes),
               percent_text(types.selected->bytes, types.total.bytes), "of these types"});
  }
  table.add({count_text(types.total.count), bytes_text(types.total.bytes),
             percent_text(types.total.bytes, types.total.bytes), types.selected ? "total, of all types" : "total"});
  return table.text("  ");
}

std::string pymalloc_text(const ObmallocUse& use, const TextStyle& style) {
  std::string text = obmalloc_line(use);
  text += fmt::format("            found by {}; arenas of {}, pools of {}\n", use.located_by,
                      bytes_text(use.arena_bytes), bytes_text(use.pool_bytes));
  TextTable classes({{"block bytes", Align::kRight},
                     {"pools", Align::kRight},
                     {"blocks in use", Align::kRight},
                     {"blocks free", Align::kRight},
                     {"bytes in use", Align::kRight},
                     {"filled", Align::kRight}});
  for (const PoolClass& c : use.classes) {
    classes.add({count_text(c.block_bytes), count_text(c.pools), count_text(c.blocks_in_use), count_text(c.blocks_free),
                 bytes_text(c.blocks_in_use * c.block_bytes),
                 percent_text(c.blocks_in_use, c.blocks_in_use + c.blocks_free)});
  }
  text += heading("Size classes", style) + classes.text("  ");
  TextTable arenas({{"arena", Align::kRight},
                    {"pools", Align::kRight},
                    {"free pools", Align::kRight},
                    {"blocks in use", Align::kRight},
                    {"bytes in use", Align::kRight},
                    {"filled", Align::kRight}});
  std::size_t shown = 0;
  for (const ArenaUse& a : use.arenas) {
    if (style.limit != 0 && shown++ == style.limit) break;
    arenas.add({address_text(a.arena.address), count_text(a.pools), count_text(a.free_pools),
                count_text(a.blocks_in_use), bytes_text(a.bytes_in_use), percent_text(a.bytes_in_use, a.bytes)});
  }
  text += heading("Arenas", style) + arenas.text("  ");
  if (style.limit != 0 && use.arenas.size() > style.limit) {
    text += fmt::format("  ({} more; --limit 0 shows all)\n", count_text(use.arenas.size() - style.limit));
  }
  TextTable total({{"", Align::kLeft}, {"", Align::kRight}, {"", Align::kRight}});
  total.add({"in use", bytes_text(use.bytes_in_use), percent_text(use.bytes_in_use, use.bytes)});
  total.add({"free", bytes_text(use.bytes_free), percent_text(use.bytes_free, use.bytes)});
  total.add({"overhead", bytes_text(use.bytes_overhead), percent_text(use.bytes_overhead, use.bytes)});
  if (use.bytes_lost != 0) total.add({"lost", bytes_text(use.bytes_lost), percent_text(use.bytes_lost, use.bytes)});
  total.add({"total", bytes_text(use.bytes), percent_text(use.bytes, use.bytes)});
  return text + heading("Total", style) + total.text("  ");
}

// Of a live process; of a core nothing.
static std::string resident_text(const Ledger& ledger, const TextStyle& style) {
  if (ledger.resident.empty()) return "";
  TextTable table(
      {{"", Align::kLeft}, {"mapped", Align::kRight}, {"resident", Align::kRight}, {"swapped", Align::kRight}});
  ResidentRow total;
  const auto add = [&](const ResidentRow& row) {
    table.add({row.what, bytes_text(row.mapped_bytes), bytes_text(row.resident_bytes),
               row.swapped_bytes == 0 ? "-" : bytes_text(row.swapped_bytes)});
  };
  for (const ResidentRow& row : ledger.resident) {
    add(row);
    total.mapped_bytes += row.mapped_bytes;
    total.resident_bytes += row.resident_bytes;
    total.swapped_bytes += row.swapped_bytes;
  }
  total.what = "total";
  add(total);
  return heading("What of it is resident", style) + table.text("  ") +
         fmt::format("  the kernel counts {} resident (VmRSS); read while the process ran on\n",
                     bytes_text(ledger.rss_bytes));
}

std::string ledger_text(const Ledger& ledger, const TextStyle& style) {
  TextTable table({{"category", Align::kLeft},
                   {"bytes", Align::kRight},
                   {"share", Align::kRight},
                   {"not dumped", Align::kRight},
                   {"detail", Align::kLeft}});
  std::size_t shown = 0;
  std::uint64_t rest = 0;
  for (const LedgerRow& row : ledger.rows) {
    if (style.limit != 0 && shown == style.limit) {
      rest += row.bytes;
      continue;
    }
    ++shown;
    table.add({row.category, bytes_text(row.bytes), percent_text(row.bytes, ledger.mapped_bytes),
               row.not_dumped_bytes == 0 ? "-" : bytes_text(row.not_dumped_bytes), printable(row.detail)});
    std::string types;
    for (std::size_t i = 0; i < std::min(row.types.size(), kTypesShown); ++i) {
      const LedgerType& type = row.types[i];
      types += fmt::format("{}{} {}", types.empty() ? "  " : ", ", printable(type.type), bytes_text(type.bytes));
    }
    if (!types.empty()) table.add({"", "", "", "", types});
  }
  if (rest != 0) {
    table.add({fmt::format("({} more)", ledger.rows.size() - shown), bytes_text(rest),
               percent_text(rest, ledger.mapped_bytes), "-", "--limit 0 shows all"});
  }
  table.add(
      {"total", bytes_text(ledger.mapped_bytes), "100.0 %", "", fmt::format("{} B", count_text(ledger.mapped_bytes))});
  return table.text("  ") + resident_text(ledger, style);
}

}  // namespace heapcore

#include <fmt/format.h>

#include <algorithm>

#include "report/answers.h"
#include "report/format.h"
#include "report/text_parts.h"
#include "report/version.h"

namespace heapcore {
namespace {

constexpr std::size_t kTextColumns = 100;

std::string type_name(const TypeRow& row) {
  return row.module.empty() || row.module == "builtins" ? row.name : row.module + "." + row.name;
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

namespace {

// Who gives the objects their memory: "pymalloc, with debug hooks; jemalloc in malloc's place".
std::string allocators_text(const Process& process, const Census& census) {
  std::string_view name = census.python_allocator;
  const bool hooked = name.ends_with("_debug");
  if (hooked) name.remove_suffix(6);
  std::string text = name.empty() ? "cannot be told" : std::string(name);
  if (hooked) text += ", with debug hooks";
  if (!process.malloc.other_allocator.empty()) text += "; " + process.malloc.other_allocator + " in malloc's place";
  return text;
}

std::string process_section(const Process& process, const Stock& stock) {
  const Snapshot& snapshot = process.snapshot;
  const TargetInfo& info = snapshot.info;
  TextTable table({{"", Align::kLeft}, {"", Align::kLeft}});
  const std::string what =
      info.kind == TargetKind::kCore ? "core file " + info.path : fmt::format("live process {}", info.pid);
  table.add({"Target", printable(what)});
  std::string command = printable(info.command.empty() ? info.executable : info.command);
  if (info.kind == TargetKind::kCore && info.pid != 0) command += fmt::format("  (pid {})", info.pid);
  table.add({"Process", command.empty() ? "unknown" : command});
  if (info.kind == TargetKind::kProcess) {
    table.add({"Stopped for", fmt::format("{:.1f} ms, then analysed from a copy", info.pause_seconds * 1000)});
  } else if (info.signal != 0) {
    table.add({"Signal", std::to_string(info.signal)});
  }
  table.add({"Threads", count_text(snapshot.threads.size())});
  const PyRuntime* runtime = process.runtime();
  if (runtime != nullptr) {
    table.add({"Python", fmt::format("{}, {} build, found by {}, layout of {}", process.python.version,
                                     build_text(process.python), runtime->located_by, runtime->traits.layout_version)});
  } else {
    table.add({"Python", process.python.undetermined ? "cannot be told (see the warnings)"
                         : process.python.version.empty()
                             ? "none in this process"
                             : process.python.version + ", not decoded (see the warnings)"});
  }
  if (stock.census) table.add({"Objects in", allocators_text(process, *stock.census)});
  if (const Heap* heap = process.heap()) {
    table.add({"C library", fmt::format("{}, malloc found by {}, layout of {}", libc_text(*heap), located_text(*heap),
                                        heap->layout_version)});
  } else {
    table.add({"C library", "no glibc malloc: " + printable(process.malloc.why_not)});
  }
  std::uint64_t not_dumped = 0;
  for (const Mapping& mapping : snapshot.mappings) not_dumped += mapping.not_dumped_bytes;
  table.add(
      {"Memory", fmt::format("{} mapped, of which {} ({}) is not in the snapshot", bytes_text(snapshot.mapped_bytes()),
                             bytes_text(not_dumped), percent_text(not_dumped, snapshot.mapped_bytes()))});
  return table.text();
}

// One line a category: what a person reads in ten seconds.
std::string ledger_summary(const Ledger& ledger) {
  TextTable table({{"", Align::kLeft}, {"bytes", Align::kRight}, {"share", Align::kRight}, {"", Align::kLeft}});
  for (std::size_t i = 0; i < ledger.rows.size();) {
    const std::string& category = ledger.rows[i].category;
    std::uint64_t bytes = 0;
    std::uint64_t parts = 0;
    const LedgerRow& largest = ledger.rows[i];
    for (; i < ledger.rows.size() && ledger.rows[i].category == category; ++i, ++parts) bytes += ledger.rows[i].bytes;
    std::string detail = printable(largest.detail);
    if (parts > 1) detail = fmt::format("{} {}{}", bytes_text(largest.bytes), detail, parts > 2 ? ", ..." : "");
    table.add({category, bytes_text(bytes), percent_text(bytes, ledger.mapped_bytes), detail});
  }
  table.add({"total", bytes_text(ledger.mapped_bytes), percent_text(ledger.mapped_bytes, ledger.mapped_bytes), ""});
  return table.text("  ");
}

std::string obmalloc_line(const ObmallocUse& use) {
  const bool is_mimalloc = use.allocator == std::string_view("mimalloc");
  return fmt::format("  {}  {}, {}: {} in use ({}), {} free in used {}, {} in free {}\n", use.allocator,
                     counted(use.arenas.size(), is_mimalloc ? "segment" : "arena"), bytes_text(use.bytes),
                     bytes_text(use.bytes_in_use), percent_text(use.bytes_in_use, use.bytes),
                     bytes_text(use.bytes_free - use.bytes_free_pools), is_mimalloc ? "pages" : "pools",
                     bytes_text(use.bytes_free_pools), is_mimalloc ? "slices" : "pools");
}

}  // namespace

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
  }
  if (rest != 0) {
    table.add({fmt::format("({} more)", ledger.rows.size() - shown), bytes_text(rest),
               percent_text(rest, ledger.mapped_bytes), "-", "--limit 0 shows all"});
  }
  table.add(
      {"total", bytes_text(ledger.mapped_bytes), "100.0 %", "", fmt::format("{} B", count_text(ledger.mapped_bytes))});
  return table.text("  ");
}

std::string report_text(const Process& process, const Stock& stock, const TextStyle& style) {
  std::string text = process_section(process, stock);
  text += heading("Where the memory is", style) + ledger_summary(stock.ledger);
  if (stock.census) {
    TextStyle top = style;
    top.limit = style.limit == 0 ? 0 : std::min<std::size_t>(style.limit, 15);
    text += heading("Python objects, by type", style);
    text += types_text(type_rows(*stock.census, GroupBy::kType, SortBy::kBytes, false), top);
    top.limit = std::min<std::size_t>(top.limit, 8);
    text += heading("Python objects, by the module that defines their type", style);
    text += types_text(type_rows(*stock.census, GroupBy::kModule, SortBy::kBytes, false), top);
    const std::string lists = stock.census->rings_whole ? "agree" : "do not agree";
    text += fmt::format("  {} of them are tracked by the collector; {}\n", count_text(stock.census->tracked.count),
                        process.python.free_threaded ? "each says so itself, a free-threaded build has no lists of them"
                                                     : "its lists " + lists + " with what was found");
  }
  text += heading("Allocators", style);
  if (stock.obmalloc) text += obmalloc_line(*stock.obmalloc);
  if (process.heap() != nullptr) text += malloc_line(*process.heap());
  const std::string warnings = warnings_text(process.findings);
  text += heading("Warnings and notes", style) + (warnings.empty() ? "  none\n" : warnings);
  text += heading("What this report cannot tell", style);
  for (const char* limit : kReportLimits) text += fmt::format("  - {}\n", limit);
  return text;
}

}  // namespace heapcore

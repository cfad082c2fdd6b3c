#include <fmt/format.h>

#include <algorithm>

#include "pyobj/builtins_names.h"
#include "report/format.h"
#include "report/holder_answers.h"
#include "report/native_answers.h"
#include "report/report_answers.h"
#include "report/space_answers.h"
#include "report/text_parts.h"
#include "report/version.h"

namespace heapcore {
namespace {

constexpr std::size_t kColumns = 100;
constexpr std::size_t kTypeColumns = 28;
constexpr std::size_t kPathColumns = 54;
constexpr std::size_t kCycleColumns = 70;

// At most so many rows, unless all are asked for.
TextStyle at_most(TextStyle style, std::size_t rows) {
  style.limit = style.limit == 0 ? 0 : std::min(style.limit, rows);
  return style;
}

std::size_t cut(std::size_t count, const TextStyle& style, std::size_t rows) {
  const std::size_t limit = at_most(style, rows).limit;
  return limit == 0 ? count : std::min(count, limit);
}

// A text in pieces, the middle left out, so that its line fits.
std::string fitted(const std::string& text, std::size_t columns) {
  const std::string shown = printable(text);
  if (shown.size() <= columns) return shown;
  std::size_t head = columns / 2;
  std::size_t tail = shown.size() - (columns - columns / 2) + 5;
  const auto inside_character = [&](std::size_t at) { return (static_cast<unsigned char>(shown[at]) & 0xC0) == 0x80; };
  while (inside_character(head)) --head;
  while (inside_character(tail)) ++tail;
  return shown.substr(0, head) + " ... " + shown.substr(tail);
}

// Without the module of builtins.
std::string type_text(const std::string& type) {
  return fitted(std::string(without_builtins(type)), kTypeColumns);
}

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

std::string python_text(const Process& process) {
  const PyRuntime* runtime = process.runtime();
  if (runtime != nullptr)
    return fmt::format("{}, {} build, found by {}, layout of {}", process.python.version, build_text(process.python),
                       runtime->located_by, runtime->traits.layout_version);
  if (process.python.undetermined) return "cannot be told (see the warnings)";
  return process.python.version.empty() ? "none in this process"
                                        : process.python.version + ", not decoded (see the warnings)";
}

std::string process_section(const Process& process, const Ledger& ledger) {
  const TargetInfo& info = process.snapshot.info;
  TextTable table({{"", Align::kLeft}, {"", Align::kLeft}});
  const bool is_core = info.kind == TargetKind::kCore;
  table.add({"Target", printable(is_core ? "core file " + info.path : fmt::format("live process {}", info.pid))});
  std::string command = printable(info.command.empty() ? info.executable : info.command);
  if (is_core && info.pid != 0) command += fmt::format("  (pid {})", info.pid);
  table.add({"Process", command.empty() ? "unknown" : command});
  if (!is_core) {
    table.add({"Stopped for", info.pause_seconds == 0
                                  ? std::string("not at all; analysed from a copy made as it ran")
                                  : fmt::format("{:.1f} ms, then analysed from a copy", info.pause_seconds * 1000)});
  } else if (info.signal != 0) {
    table.add({"Signal", std::to_string(info.signal)});
  }
  table.add({"Threads", count_text(process.snapshot.threads.size())});
  const Heap* heap = process.heap();
  table.add({"Python", process.python.version.empty() ? python_text(process) : process.python.version});
  table.add(
      {"C library", heap != nullptr ? libc_text(*heap) : "no glibc malloc: " + printable(process.malloc.why_not)});
  std::string memory = bytes_text(process.snapshot.mapped_bytes()) + " mapped";
  if (!ledger.resident.empty()) {
    std::uint64_t swapped_bytes = 0;
    for (const ResidentRow& row : ledger.resident) swapped_bytes += row.swapped_bytes;
    memory += fmt::format(", {} resident", bytes_text(ledger.rss_bytes));
    if (swapped_bytes != 0) memory += fmt::format(", {} swapped", bytes_text(swapped_bytes));
  }
  table.add({"Memory", memory});
  return table.text();
}

std::string severity_text(Severity severity, const TextStyle& style) {
  const std::string name = severity_name(severity);
  if (!style.color) return fmt::format("{:<6}", name);
  const int color = severity == Severity::kHigh ? 31 : severity == Severity::kMedium ? 33 : 36;
  return fmt::format("\x1b[1;{}m{:<6}\x1b[0m", color, name);
}

// What was looked at when nothing was found, so that the reader sees how far from trouble the process is.
std::string no_findings(const Process& process, const Incident& incident) {
  std::string text = "  no findings";
  const auto add = [&](const std::string& figure) { text += (text.ends_with("findings") ? ": " : "; ") + figure; };
  if (incident.holders) {
    const std::vector<RetainedRow>& objects = incident.retained.objects;
    if (!objects.empty()) {
      add(fmt::format("the largest holder, {}, retains {} ({} of what is in use)", type_text(objects[0].type),
                      bytes_text(objects[0].retained_bytes),
                      percent_text(objects[0].retained_bytes, incident.retained.total.bytes)));
    }
    add(fmt::format("uncollected garbage holds {}", bytes_text(incident.cycles.garbage_retained_bytes)));
  }
  if (incident.obmalloc)
    add(fmt::format("{} keeps {} free", incident.obmalloc->allocator, bytes_text(incident.obmalloc->bytes_free)));
  if (const Heap* heap = process.heap()) {
    std::uint64_t trim_bytes = 0;
    for (const Arena& arena : heap->arenas) trim_bytes += arena.totals.trim_nonzero_bytes;
    add(fmt::format("malloc_trim(0) would return {}", bytes_text(trim_bytes)));
  }
  return wrapped(text.substr(2), kColumns, "  ").insert(0, "  ") + "\n";
}

// Text that stands behind `lead`, all its lines equally far to the right.
std::string block(const std::string& lead, const std::string& text) {
  const std::string lines = wrapped(printable(text), kColumns - lead.size(), "");
  std::string result = lead;
  for (const char c : lines) {
    result += c;
    if (c == '\n') result += std::string(lead.size(), ' ');
  }
  return result + "\n";
}

std::string findings_section(const Process& process, const Incident& incident, const TextStyle& style) {
  if (incident.diagnoses.empty()) return no_findings(process, incident);
  const std::string indent(20, ' ');
  std::string text;
  for (const Diagnosis& diagnosis : incident.diagnoses) {
    if (!text.empty()) text += '\n';
    text += fmt::format("  {}  {:>8}  ", severity_text(diagnosis.severity, style), bytes_text(diagnosis.bytes));
    text += block(indent, diagnosis.title).substr(indent.size());
    for (const std::string& line : diagnosis.evidence) text += block(indent + "- ", line);
    if (!diagnosis.advice.empty()) text += block(indent + "=> ", diagnosis.advice);
    std::string addresses;
    for (std::size_t i = 0; i < std::min<std::size_t>(diagnosis.objects.size(), 5); ++i)
      addresses += " " + address_text(diagnosis.objects[i]);
    text += fmt::format("{}[{}]{}{}\n", indent, diagnosis.code, addresses.empty() ? "" : " see", addresses);
  }
  return text;
}

// One line a category.
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

std::string holders_section(const RetainedAnswer& retained, const TextStyle& style) {
  TextTable objects({{"retained", Align::kRight},
                     {"share", Align::kRight},
                     {"address", Align::kLeft},
                     {"type", Align::kLeft},
                     {"held by", Align::kLeft}});
  const auto add = [&](const RetainedRow& row) {
    objects.add({bytes_text(row.retained_bytes), percent_text(row.retained_bytes, retained.total.bytes),
                 address_text(row.address), type_text(row.type), fitted(row.path, kPathColumns)});
  };
  for (std::size_t i = 0; i < cut(retained.objects.size(), style, 10); ++i) add(retained.objects[i]);
  std::string text = heading("Who holds it: what would go if this went", style) + objects.text("  ");
  for (std::size_t i = 0; i < cut(retained.accumulation.size(), style, 3); ++i) {
    const RetainedRow& row = retained.accumulation[i];
    text += fmt::format("  {:>8}  of it piles up in a {} at {}: {}\n", bytes_text(row.retained_bytes),
                        type_text(row.type), address_text(row.address), fitted(row.path, kCycleColumns));
  }
  if (!retained.modules.empty()) {
    TextTable modules({{"retained", Align::kRight}, {"count", Align::kRight}, {"module of the type", Align::kLeft}});
    for (std::size_t i = 0; i < cut(retained.modules.size(), style, 6); ++i) {
      const RetainedGroup& group = retained.modules[i];
      modules.add({bytes_text(group.retained_bytes), count_text(group.count),
                   group.module.empty() ? "(raw blocks)" : fitted(group.module, kCycleColumns)});
    }
    text += "\n" + modules.text("  ");
  }
  return text;
}

// One line an allocator, and what pins most.
std::string fragmentation_section(const Incident& incident, const TextStyle& style) {
  if (incident.map.allocators.empty()) return "";
  std::string text = heading("Fragmentation and waste", style);
  for (const MapTotals& totals : incident.map.allocators) {
    std::string line = fmt::format("{:<8}  {}, {} held, {} of it live", map_allocator_name(totals.allocator),
                                   counted(totals.arenas, "arena"), bytes_text(totals.bytes),
                                   percent_text(totals.live_bytes, totals.bytes));
    for (const MapEmptying& row : incident.map.emptying) {
      if (row.allocator != totals.allocator || row.percent != 25 || totals.arenas < 4) continue;
      line += fmt::format("; the sparsest quarter holds {}, {} of it live", bytes_text(row.freed_bytes),
                          percent_text(row.moved_bytes, row.freed_bytes));
    }
    text += "  " + line + "\n";
  }
  if (incident.waste && incident.waste->total.wasted_bytes != 0) {
    text += fmt::format("  {} of what is live are wasted: ", bytes_text(incident.waste->total.wasted_bytes));
    std::string kinds;
    for (std::size_t i = 0; i < kWasteKinds; ++i) {
      const WasteFigures& figures = incident.waste->by_kind[i];
      if (figures.wasted_bytes < incident.waste->total.wasted_bytes / 10) continue;
      std::string name(waste_kind_name(static_cast<WasteKind>(i)));
      std::replace(name.begin(), name.end(), '_', ' ');
      kinds += fmt::format("{}{} {}", kinds.empty() ? "" : ", ", name, bytes_text(figures.wasted_bytes));
    }
    text += kinds + "\n";
  }
  if (!incident.pins) return text;
  for (std::size_t i = 0; i < cut(incident.pins->pins.size(), style, 3); ++i) {
    const PinGroup& pin = incident.pins->pins[i];
    text += fmt::format("  {:>8}  of {} kept by {} {} ({} live), held by {}\n", bytes_text(pin.kept_bytes),
                        map_allocator_name(pin.allocator), count_text(pin.count), type_text(pin.type),
                        bytes_text(pin.bytes), pin.held_by.empty() ? "nothing" : fitted(pin.held_by, kPathColumns));
  }
  return text;
}

std::string cycles_section(const CyclesAnswer& cycles, const TextStyle& style) {
  std::string text = heading("Cycles and garbage", style);
  text += fmt::format("  {} of uncollected garbage hold {}{}\n", counted(cycles.garbage.count, "object"),
                      bytes_text(cycles.garbage_retained_bytes),
                      cycles.gc_enabled ? "" : "; the collector is switched off");
  const std::size_t shown = cut(cycles.groups.size(), style, 3);
  for (std::size_t i = 0; i < shown; ++i) {
    const CycleGroup& group = cycles.groups[i];
    text += fmt::format("  {:>8}  {} {}: {}\n", bytes_text(group.retained_bytes), counted(group.count, "cycle"),
                        group.garbage ? "of garbage" : "in use", fitted(group.text(), kCycleColumns));
  }
  return text;
}

std::string thread_line(const ThreadRow& thread) {
  std::uint64_t retained_bytes = 0;
  const StackFrame* innermost = nullptr;
  for (const StackFrame& frame : thread.frames) {
    if (!frame.is_python) continue;
    if (innermost == nullptr) innermost = &frame;
    retained_bytes += frame.retained_bytes;
  }
  std::string name = printable(thread.python_name.empty() ? thread.name : thread.python_name);
  std::string where = "no Python frame";
  if (innermost != nullptr)
    where = fmt::format("{} ({}:{})", printable(innermost->function), printable(innermost->file), innermost->line);
  if (retained_bytes != 0) where += fmt::format("; locals retain {}", bytes_text(retained_bytes));
  return fmt::format("  {:>8}  {:<16}  {}\n", thread.tid == 0 ? "?" : std::to_string(thread.tid), name, where);
}

std::string threads_section(const ThreadsAnswer& threads, const TextStyle& style) {
  std::string text = heading("Threads", style);
  const std::size_t shown = cut(threads.threads.size(), style, 8);
  for (std::size_t i = 0; i < shown; ++i) text += thread_line(threads.threads[i]);
  if (shown < threads.threads.size())
    text += fmt::format("  ({} more; `heapcore threads` shows all)\n", threads.threads.size() - shown);
  if (!threads.tasks.empty() || threads.tasks_ended != 0) {
    text += fmt::format("  asyncio: {} pending, {} ended\n", counted(threads.tasks.size(), "task"),
                        count_text(threads.tasks_ended));
  }
  return text;
}

std::string confidence_section(const Process& process, const Incident& incident, const TextStyle& style) {
  std::string text = heading("How far to trust this", style);
  const auto line = [&](const std::string& said) { text += "  " + wrapped(said, kColumns, "    ") + "\n"; };
  line("Python: " + python_text(process));
  const Census* census = incident.census();
  if (census != nullptr) {
    line("objects in " + allocators_text(process, *census));
    const std::string tracked = count_text(census->tracked.count);
    if (process.python.free_threaded) {
      line(tracked + " objects say that the collector tracks them; this build has no lists to compare with");
    } else {
      line(fmt::format("the collector's lists {} with the {} tracked objects found",
                       census->rings_whole ? "agree" : "do not agree", tracked));
    }
  }
  if (const Heap* heap = process.heap()) {
    line(
        fmt::format("{}, malloc found by {}, layout of {}", libc_text(*heap), located_text(*heap), layout_text(*heap)));
  }
  line(fmt::format("{} of the mapped bytes are explained ({} of {}); {} are not in the snapshot",
                   percent_text(incident.explained_bytes, incident.ledger.mapped_bytes),
                   bytes_text(incident.explained_bytes), bytes_text(incident.ledger.mapped_bytes),
                   bytes_text(incident.not_dumped_bytes)));
  for (const char* limit : kReportLimits) line(limit);
  return text;
}

}  // namespace

// Whose the chunks in use are: the largest few.
static std::string owners_line(const MallocOwners& owners) {
  constexpr std::size_t kShown = 4;
  std::string text = "in use by ";
  for (std::size_t i = 0; i < std::min(owners.owners.size(), kShown); ++i) {
    const MallocOwner& row = owners.owners[i];
    text += fmt::format("{}{} {}", i == 0 ? "" : ", ", printable(row.owner), bytes_text(row.chunks.bytes));
  }
  if (owners.owners.size() > kShown) text += fmt::format(", {} more", owners.owners.size() - kShown);
  text += fmt::format("; {} ({}) unowned", bytes_text(owners.unowned.bytes),
                      percent_text(owners.unowned.bytes, owners.total.bytes));
  return "            " + wrapped(text, 88, "            ") + "\n";
}

std::string report_text(const Process& process, const Incident& incident, const TextStyle& style) {
  std::string text = process_section(process, incident.ledger);
  text += heading("Findings", style) + findings_section(process, incident, style);
  text += heading("Where the memory is", style) + ledger_summary(incident.ledger);
  if (incident.holders) {
    text += holders_section(incident.retained, style);
    text += heading("Python objects, by type", style);
    text += types_text(type_rows(*incident.census(), GroupBy::kType, SortBy::kBytes, false), at_most(style, 12));
  }
  text += fragmentation_section(incident, style);
  if (incident.holders) {
    text += cycles_section(incident.cycles, style);
    text += threads_section(incident.threads, style);
  }
  text += heading("Allocators", style);
  if (incident.obmalloc) text += obmalloc_line(*incident.obmalloc);
  if (process.heap() != nullptr) text += malloc_line(*process.heap());
  if (incident.malloc_owners) text += owners_line(*incident.malloc_owners);
  if (incident.native) text += native_text(*incident.native, at_most(style, 5));
  text += confidence_section(process, incident, style);
  const std::string warnings = warnings_text(process.findings);
  text += heading("Warnings and notes", style) + (warnings.empty() ? "  none\n" : warnings);
  return text;
}

}  // namespace heapcore

#include <fmt/format.h>

#include <iterator>

#include "report/format.h"
#include "report/malloc_answers.h"
#include "report/malloc_parts.h"
#include "report/text_parts.h"
#include "report/version.h"

namespace heapcore {
namespace {

std::string arena_name(const Heap& heap, std::uint32_t arena) {
  return heap.arenas[arena].is_main ? "main" : address_text(heap.arenas[arena].address);
}

std::string size_range(const SizeClass& row) {
  if (row.smallest_bytes == row.largest_bytes) return count_text(row.smallest_bytes);
  return fmt::format("{} to {}", count_text(row.smallest_bytes), count_text(row.largest_bytes));
}

std::string chunk_line(const Chunk& chunk) {
  std::string text = fmt::format("{} B at {}, {}", count_text(chunk.size_bytes), address_text(chunk.address),
                                 chunk.in_use() ? "in use" : state_name(chunk.state));
  const bool listed = !chunk.in_use() && chunk.state != ChunkState::kTop;
  if (listed) text += fmt::format(" (free, bin {})", list_of(chunk.state, chunk.size_bytes));
  return text;
}

// The threads that use an arena: up to three by their numbers.
std::string threads_text(const Heap& heap, const Arena& arena) {
  if (!heap.thread_arenas_known) return count_text(arena.attached_threads);
  if (arena.threads.empty()) return "none";
  if (arena.threads.size() > 3) return count_text(arena.threads.size());
  std::string text;
  for (const std::int32_t tid : arena.threads) text += (text.empty() ? "" : ", ") + std::to_string(tid);
  return text;
}

std::string confined_line(const Heap& heap) {
  const Heap::Confined confined = heap.confined();
  if (confined.arenas == 0) return "";
  std::string text = fmt::format("  {} are free in {} thread arenas, where only their own threads can use them",
                                 bytes_text(confined.free_bytes), count_text(confined.arenas));
  if (confined.idle_arenas != 0) {
    text += fmt::format(",\n  {} of it in {} arenas that no thread uses", bytes_text(confined.idle_bytes),
                        count_text(confined.idle_arenas));
  }
  return text + "; with MALLOC_ARENA_MAX=1 all of it would serve any thread\n";
}

}  // namespace

bool is_mmapped_row(const std::vector<SizeClass>& sizes, const SizeClass& row) {
  return &row == &sizes.back() && row.bin == 0 && row.smallest_bytes % 4096 == 0 && row.largest_bytes % 4096 == 0;
}

std::string libc_text(const Heap& heap) {
  return heap.libc_version.empty() ? "glibc" : "glibc " + heap.libc_version;
}

std::string located_text(const Heap& heap) {
  std::string text = heap.located_by;
  for (std::size_t i = 0; i < heap.agreed.size(); ++i) text += (i == 0 ? "; confirmed by " : ", ") + heap.agreed[i];
  return text;
}

std::string layout_text(const Heap& heap) {
  return fmt::format("{} ({})", heap.layout_version, heap.layout_source);
}

std::string malloc_line(const Heap& heap) {
  ArenaTotals all;
  std::uint64_t system_bytes = 0;
  for (const Arena& arena : heap.arenas) {
    all += arena.totals;
    system_bytes += arena.system_bytes;
  }
  const CountBytes free = all.free();
  const CountBytes in_use = all.of(ChunkState::kInUse);
  return fmt::format(
      "  malloc    {}, {}: {} in use ({}), {} free; {}, {}\n"
      "            malloc_trim(0) would return {}\n",
      counted(heap.arenas.size(), "arena"), bytes_text(system_bytes), bytes_text(in_use.bytes),
      percent_text(in_use.bytes, system_bytes), bytes_text(free.bytes), counted(heap.mmapped.size(), "mmapped chunk"),
      bytes_text(heap.mmapped_total().bytes), bytes_text(all.trim_nonzero_bytes));
}

std::string malloc_text(const Heap& heap, const TextStyle& style) {
  std::string text = malloc_line(heap);
  text += fmt::format("            {}, found by {}, layout of {}\n", libc_text(heap), located_text(heap),
                      layout_text(heap));
  TextTable table({{"arena", Align::kRight},
                   {"", Align::kLeft},
                   {"heaps", Align::kRight},
                   {"threads", Align::kRight},
                   {"system", Align::kRight},
                   {"in use", Align::kRight},
                   {"tcache", Align::kRight},
                   {"fast", Align::kRight},
                   {"unsorted", Align::kRight},
                   {"small", Align::kRight},
                   {"large", Align::kRight},
                   {"top", Align::kRight},
                   {"trim returns", Align::kRight}});
  const auto add = [&](const std::string& name, const std::string& note, std::uint64_t heaps,
                       const std::string& threads, std::uint64_t system_bytes, const ArenaTotals& totals) {
    table.add({name, note, count_text(heaps), threads, bytes_text(system_bytes), amount(totals.of(ChunkState::kInUse)),
               amount(totals.of(ChunkState::kTcache)), amount(totals.of(ChunkState::kFast)),
               amount(totals.of(ChunkState::kUnsorted)), amount(totals.of(ChunkState::kSmall)),
               amount(totals.of(ChunkState::kLarge)), bytes_text(totals.of(ChunkState::kTop).bytes),
               bytes_text(totals.trim_nonzero_bytes)});
  };
  ArenaTotals all;
  std::uint64_t heaps = 0;
  std::uint64_t system_bytes = 0;
  for (const Arena& arena : heap.arenas) {
    add(address_text(arena.address), arena.is_main ? "main" : "", arena.heaps.size(), threads_text(heap, arena),
        arena.system_bytes, arena.totals);
    all += arena.totals;
    heaps += arena.heaps.size();
    system_bytes += arena.system_bytes;
  }
  add("total", "", heaps, "", system_bytes, all);
  text += heading("Arenas", style) + table.text("  ");
  text +=
      fmt::format("\n  malloc_trim(0): {} resident ({} mapped); chunks in tcaches hold back {} more\n",
                  bytes_text(all.trim_nonzero_bytes), bytes_text(all.trim_bytes()), bytes_text(all.held_back_bytes));
  text += confined_line(heap);
  if (heap.tcaches.empty()) return text;
  TextTable tcaches(
      {{"thread", Align::kRight}, {"tcache", Align::kRight}, {"arena", Align::kRight}, {"holds", Align::kRight}});
  std::size_t shown = 0;
  for (const Tcache& tcache : heap.tcaches) {
    if (style.limit != 0 && shown++ == style.limit) break;
    tcaches.add({tcache.tid == 0 ? "unknown" : std::to_string(tcache.tid), address_text(tcache.address),
                 arena_name(heap, tcache.arena), amount(tcache.chunks)});
  }
  text += heading("Tcaches", style) + tcaches.text("  ");
  if (style.limit != 0 && heap.tcaches.size() > style.limit) {
    text += fmt::format("  ({} more; --limit 0 shows all)\n", count_text(heap.tcaches.size() - style.limit));
  }
  return text;
}

std::string bins_text(const Heap& heap, const std::vector<SizeClass>& classes) {
  TextTable table({{"arena", Align::kRight},
                   {"kind", Align::kLeft},
                   {"bin", Align::kRight},
                   {"chunk bytes", Align::kRight},
                   {"count", Align::kRight},
                   {"bytes", Align::kRight}});
  for (const SizeClass& row : classes) {
    if (row.state == ChunkState::kInUse || row.state == ChunkState::kTop) continue;
    table.add({arena_name(heap, row.arena), state_name(row.state), std::to_string(row.bin), size_range(row),
               count_text(row.total.count), bytes_text(row.total.bytes)});
  }
  return table.text("  ");
}

std::string sizes_text(const std::vector<SizeClass>& sizes) {
  TextTable table({{"chunk bytes", Align::kRight},
                   {"count", Align::kRight},
                   {"bytes", Align::kRight},
                   {"share", Align::kRight},
                   {"", Align::kLeft}});
  CountBytes total;
  for (const SizeClass& row : sizes) total += row.total;
  for (const SizeClass& row : sizes) {
    table.add({size_range(row), count_text(row.total.count), bytes_text(row.total.bytes),
               percent_text(row.total.bytes, total.bytes), is_mmapped_row(sizes, row) ? "mmapped" : ""});
  }
  table.add({"total", count_text(total.count), bytes_text(total.bytes), percent_text(total.bytes, total.bytes), ""});
  return table.text("  ");
}

std::string place_text(const Heap& heap, const Place& place, std::string_view indent) {
  std::string text;
  const auto add = [&](const char* label, const std::string& value) {
    text += fmt::format("{}{:<8}{}\n", indent, label, value);
  };
  const std::string arena = place.arena < heap.arenas.size() ? arena_name(heap, place.arena) : "";
  switch (place.kind) {
    case PlaceKind::kNone:
      add("is", "not in malloc's memory");
      break;
    case PlaceKind::kArena:
      add("is", "in main_arena, the malloc_state of the main arena");
      break;
    case PlaceKind::kOverhead:
      add("is", "in the head of a heap of arena " + arena);
      break;
    case PlaceKind::kNoChunk:
      add("is", "in arena " + arena + ", but in no chunk");
      break;
    case PlaceKind::kMmapped:
      add("chunk", fmt::format("{} B mapped at {}, in use", count_text(place.mmapped->mapping.size_bytes()),
                               address_text(place.mmapped->mapping.start)));
      break;
    case PlaceKind::kChunk:
      add("arena", arena);
      add("chunk", chunk_line(*place.chunk) +
                       (place.tcache == nullptr ? "" : fmt::format(": the tcache of thread {}", place.tcache->tid)));
      add("offset", fmt::format("{} of the {} bytes of user data",
                                static_cast<std::int64_t>(place.address - place.chunk->user_address()),
                                count_text(place.chunk->user_bytes())));
      break;
  }
  if (place.before) add("before", chunk_line(*place.before));
  if (place.after) add("after", chunk_line(*place.after));
  return text;
}

std::string places_text(const Heap& heap, const std::vector<Place>& places) {
  std::string text;
  for (const Place& place : places) text += address_text(place.address) + "\n" + place_text(heap, place, "  ");
  return text;
}

void append_chunk_text(const Chunk& chunk, std::string& out) {
  fmt::format_to(std::back_inserter(out), "{:#18x}  {:>14}  {}\n", chunk.address, chunk.size_bytes,
                 state_name(chunk.state));
}

std::string chunk_text_header() {
  return fmt::format("{:>18}  {:>14}  {}\n", "chunk", "bytes", "state");
}

std::string verify_text(const Verification& verification, const Process& process, const TextStyle& style) {
  std::string text = verification.consistent ? "consistent" : "not consistent";
  if (!verification.whole) text += "; parts of the target are missing, and were not checked";
  if (verification.findings != 0) text += fmt::format("; {} findings", count_text(verification.findings));
  text += "\n";
  TextTable table({{"", Align::kLeft}, {"checked", Align::kRight}, {"", Align::kLeft}});
  for (const Verification::Check& check : verification.checks) {
    table.add({check.part, count_text(check.count), check.what});
  }
  text += heading("Checked", style) + table.text("  ");
  std::string found;
  std::string_view code;
  for (const Finding& finding : process.findings.kept()) {
    if (!finding.incomplete) continue;
    if (finding.code != code && process.findings.count(finding.code) > Findings::kKeptPerCode) {
      found += fmt::format("  {} in all, the first of which are:\n", count_text(process.findings.count(finding.code)));
    }
    code = finding.code;
    found += fmt::format("  {:#18x}  {} [{}]\n", finding.address, printable(finding.detail), finding.code);
  }
  return found.empty() ? text : text + heading("Findings", style) + found;
}

}  // namespace heapcore

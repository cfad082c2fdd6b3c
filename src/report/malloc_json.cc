#include <fmt/format.h>

#include <iterator>

#include "report/format.h"
#include "report/json_parts.h"
#include "report/malloc_answers.h"
#include "report/malloc_parts.h"
#include "report/version.h"

namespace heapcore {
namespace {

Json free_json(const ArenaTotals& totals) {
  return {{"tcache", count_bytes(totals.of(ChunkState::kTcache))},
          {"fast", count_bytes(totals.of(ChunkState::kFast))},
          {"unsorted", count_bytes(totals.of(ChunkState::kUnsorted))},
          {"small", count_bytes(totals.of(ChunkState::kSmall))},
          {"large", count_bytes(totals.of(ChunkState::kLarge))}};
}

// What malloc_trim(0) would give back: of resident memory, and of mapped memory, whether it was ever touched or not;
// and what it cannot: the chunks that tcaches hold.
Json trim_json(const ArenaTotals& totals) {
  return {{"releasable_bytes", totals.trim_nonzero_bytes},
          {"releasable_mapped_bytes", totals.trim_bytes()},
          {"held_back_bytes", totals.held_back_bytes}};
}

Json tid_or_null(std::int32_t tid) {
  return tid == 0 ? Json(nullptr) : Json(tid);
}

Json arena_json(const Heap& heap, const Arena& arena) {
  Json entry;
  entry["address"] = address_text(arena.address);
  entry["main"] = arena.is_main;
  entry["heaps"] = arena.heaps.size();
  entry["attached_threads"] = arena.attached_threads;
  entry["threads"] = heap.thread_arenas_known ? Json(arena.threads) : Json(nullptr);
  entry["system_bytes"] = arena.system_bytes;
  entry["max_system_bytes"] = arena.max_system_bytes;
  entry["top_bytes"] = arena.top_bytes;
  entry["in_use"] = count_bytes(arena.totals.of(ChunkState::kInUse));
  entry["free"] = free_json(arena.totals);
  entry["overhead_bytes"] = arena.totals.overhead_bytes;
  entry["lost_bytes"] = arena.totals.lost_bytes;
  entry["trim"] = trim_json(arena.totals);
  return entry;
}

Json size_class_json(const SizeClass& row) {
  return {{"size_from", row.smallest_bytes},
          {"size_to", row.largest_bytes},
          {"count", row.total.count},
          {"bytes", row.total.bytes}};
}

Json chunk_json(const Chunk& chunk) {
  Json entry = {{"address", address_text(chunk.address)},
                {"bytes", chunk.size_bytes},
                {"state", state_name(chunk.state)},
                {"user_address", address_text(chunk.user_address())},
                {"user_bytes", chunk.user_bytes()}};
  if (chunk.in_use() || chunk.state == ChunkState::kTop) return entry;
  entry["bin"] = list_of(chunk.state, chunk.size_bytes);
  return entry;
}

Json chunk_or_null(const std::optional<Chunk>& chunk) {
  return chunk ? chunk_json(*chunk) : Json(nullptr);
}

}  // namespace

Json malloc_json(const Heap& heap) {
  Json answer;
  answer["located_by"] = located_text(heap);
  answer["layout"] = heap.layout_version;
  answer["layout_source"] = heap.layout_source;
  answer["arenas"] = Json::array();
  ArenaTotals all;
  std::uint64_t system_bytes = 0;
  for (const Arena& arena : heap.arenas) {
    answer["arenas"].push_back(arena_json(heap, arena));
    all += arena.totals;
    system_bytes += arena.system_bytes;
  }
  answer["tcaches"] = Json::array();
  for (const Tcache& tcache : heap.tcaches) {
    Json entry;
    entry["thread"] = tid_or_null(tcache.tid);
    entry["address"] = address_text(tcache.address);
    entry["arena"] = address_text(heap.arenas[tcache.arena].address);
    entry["count"] = tcache.chunks.count;
    entry["bytes"] = tcache.chunks.bytes;
    answer["tcaches"].push_back(std::move(entry));
  }
  answer["mmapped"] = count_bytes(heap.mmapped_total());
  Json total;
  total["system_bytes"] = system_bytes;
  total["in_use"] = count_bytes(all.of(ChunkState::kInUse));
  total["free"] = free_json(all);
  total["top_bytes"] = all.of(ChunkState::kTop).bytes;
  total["overhead_bytes"] = all.overhead_bytes;
  total["lost_bytes"] = all.lost_bytes;
  answer["total"] = std::move(total);
  answer["trim"] = trim_json(all);
  const Heap::Confined confined = heap.confined();
  answer["arena_max"] = {{"limit", heap.par.arena_max},
                         {"thread_arenas", confined.arenas},
                         {"idle_arenas", confined.idle_arenas},
                         {"confined_free_bytes", confined.free_bytes},
                         {"idle_free_bytes", confined.idle_bytes}};
  return answer;
}

Json bins_json(const Heap& heap, const std::vector<SizeClass>& classes) {
  Json rows = Json::array();
  for (const SizeClass& row : classes) {
    if (row.state == ChunkState::kInUse || row.state == ChunkState::kTop) continue;
    Json entry;
    entry["arena"] = address_text(heap.arenas[row.arena].address);
    entry["kind"] = state_name(row.state);
    entry["bin"] = row.bin;
    entry.update(size_class_json(row));
    rows.push_back(std::move(entry));
  }
  Json answer;
  answer["bins"] = std::move(rows);
  return answer;
}

Json sizes_json(const std::vector<SizeClass>& sizes) {
  Json rows = Json::array();
  CountBytes total;
  for (const SizeClass& row : sizes) {
    Json entry = size_class_json(row);
    entry["mmapped"] = is_mmapped_row(sizes, row);
    rows.push_back(std::move(entry));
    total += row.total;
  }
  Json answer;
  answer["sizes"] = std::move(rows);
  answer["total"] = count_bytes(total);
  return answer;
}

Json place_json(const Heap& heap, const Place& place) {
  Json entry;
  entry["address"] = address_text(place.address);
  entry["what"] = place_name(place);
  const bool in_arena = place.kind != PlaceKind::kNone && place.kind != PlaceKind::kMmapped;
  entry["arena"] = in_arena ? Json(address_text(heap.arenas[place.arena].address)) : Json(nullptr);
  if (place.mmapped != nullptr) {
    entry["chunk"] = {{"address", address_text(place.mmapped->address)},
                      {"bytes", place.mmapped->mapping.size_bytes()},
                      {"state", "mmapped"},
                      {"user_address", address_text(place.mmapped->address + kChunkHeaderBytes)},
                      {"user_bytes", mmapped_usable_bytes(heap.traits.mmapped, place.mmapped->size_bytes)}};
  } else {
    entry["chunk"] = chunk_or_null(place.chunk);
  }
  entry["before"] = chunk_or_null(place.before);
  entry["after"] = chunk_or_null(place.after);
  entry["tcache_of_thread"] = place.tcache == nullptr ? Json(nullptr) : tid_or_null(place.tcache->tid);
  return entry;
}

Json places_json(const Heap& heap, const std::vector<Place>& places) {
  Json rows = Json::array();
  for (const Place& place : places) rows.push_back(place_json(heap, place));
  Json answer;
  answer["places"] = std::move(rows);
  return answer;
}

void append_chunk_json(const Chunk& chunk, std::string& out) {
  fmt::format_to(std::back_inserter(out), R"({{"address": "{:#x}", "bytes": {}, "state": "{}"}})", chunk.address,
                 chunk.size_bytes, state_name(chunk.state));
}

Json verify_json(const Verification& verification, const Process& process) {
  Json answer;
  answer["consistent"] = verification.consistent;
  answer["whole"] = verification.whole;
  answer["checks"] = Json::array();
  for (const Verification::Check& check : verification.checks) {
    answer["checks"].push_back({{"allocator", check.part}, {"what", check.what}, {"checked", check.count}});
  }
  answer["findings"] = Json::array();
  for (const Finding& finding : process.findings.kept()) {
    if (!finding.incomplete) continue;
    Json entry;
    entry["code"] = finding.code;
    entry["message"] = finding.detail;
    entry["address"] = finding.address == 0 ? Json(nullptr) : Json(address_text(finding.address));
    answer["findings"].push_back(std::move(entry));
  }
  answer["seen"] = verification.findings;
  return answer;
}

}  // namespace heapcore

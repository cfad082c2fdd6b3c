// Words that the text and the JSON of malloc's answers share. Private to report.
#pragma once

#include <string>
#include <vector>

#include "glibc_heap/bins.h"
#include "glibc_heap/places.h"

namespace heapcore {

constexpr const char* state_name(ChunkState state) {
  constexpr const char* kNames[kChunkStates] = {"in_use", "tcache", "fast", "unsorted", "small", "large", "top"};
  return kNames[static_cast<std::size_t>(state)];
}

constexpr const char* place_name(const Place& place) {
  switch (place.kind) {
    case PlaceKind::kNone:
      return "none";
    case PlaceKind::kChunk:
      return place.tcache != nullptr ? "tcache" : "chunk";
    case PlaceKind::kMmapped:
      return "mmapped";
    case PlaceKind::kArena:
      return "main_arena";
    case PlaceKind::kOverhead:
      return "overhead";
    case PlaceKind::kNoChunk:
      return "no_chunk";
  }
  return "";
}

// The last of sizes_in_use() may be the mmapped chunks; they alone fill whole pages.
bool is_mmapped_row(const std::vector<SizeClass>& sizes, const SizeClass& row);

}  // namespace heapcore

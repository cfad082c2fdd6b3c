#include "glibc_heap/bins.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

#include "glibc_heap/chunks.h"

namespace heapcore {
namespace {

constexpr std::size_t kClasses = 192;
constexpr std::uint64_t kLastSmallTcacheBytes = 1040;  // tcache bins of one size reach two steps beyond the small bins

// One size a class below 1024 bytes, and to 1040 in a tcache; above, the large bins.
std::size_t class_of(ChunkState state, std::uint64_t size_bytes) {
  if (state == ChunkState::kUnsorted) return 0;
  if (size_bytes < kMinChunkBytes) return 1;
  const bool last_tcache_bins =
      state == ChunkState::kTcache && size_bytes >= kMinLargeChunkBytes && size_bytes <= kLastSmallTcacheBytes;
  if (last_tcache_bins) return kBins + 1 + (size_bytes - kMinLargeChunkBytes) / kChunkAlignment;
  return bin_index(size_bytes);
}

using ClassCounts = std::array<SizeClass, kChunkStates * kClasses>;

std::vector<SizeClass> count_region(const Snapshot& snapshot, const Heap& heap, const Region& region,
                                    Findings& findings) {
  auto counts = std::make_unique<ClassCounts>();
  Reader reader(snapshot.space);
  for_each_chunk(heap, reader, region, findings, [&](const Chunk& chunk) {
    const std::size_t of_state = static_cast<std::size_t>(chunk.state) * kClasses;
    SizeClass& row = (*counts)[of_state + class_of(chunk.state, chunk.size_bytes)];
    if (row.total.count == 0) {
      row.arena = region.arena;
      row.state = chunk.state;
      row.smallest_bytes = chunk.size_bytes;
    }
    row.smallest_bytes = std::min(row.smallest_bytes, chunk.size_bytes);
    row.largest_bytes = std::max(row.largest_bytes, chunk.size_bytes);
    row.total.add(chunk.size_bytes);
  });
  std::vector<SizeClass> rows;
  for (const SizeClass& row : *counts) {
    if (row.total.count != 0) rows.push_back(row);
  }
  return rows;
}

void merge(SizeClass& into, const SizeClass& row) {
  if (into.total.count == 0) {
    into = row;
    return;
  }
  into.smallest_bytes = std::min(into.smallest_bytes, row.smallest_bytes);
  into.largest_bytes = std::max(into.largest_bytes, row.largest_bytes);
  into.total += row.total;
}

// Rows of equal key become one, in the order of the keys.
template <typename Key>
std::vector<SizeClass> merged(const std::vector<SizeClass>& rows, Key&& key) {
  std::map<decltype(key(rows.front())), SizeClass> by_key;
  for (const SizeClass& row : rows) merge(by_key[key(row)], row);
  std::vector<SizeClass> out;
  for (auto& [unused, row] : by_key) {
    row.bin = list_of(row.state, row.smallest_bytes);
    out.push_back(row);
  }
  return out;
}

}  // namespace

unsigned list_of(ChunkState state, std::uint64_t size_bytes) {
  switch (state) {
    case ChunkState::kInUse:
    case ChunkState::kTop:
      return 0;
    case ChunkState::kTcache:
      if (size_bytes > kLastSmallTcacheBytes) {
        // Since 2.42: bins by powers of two behind the 64 of one size.
        unsigned bin = 64;
        for (std::uint64_t limit = 2048; size_bytes >= limit && bin < 75; limit *= 2) ++bin;
        return bin;
      }
      [[fallthrough]];
    case ChunkState::kFast:
      return static_cast<unsigned>((size_bytes - kMinChunkBytes) / kChunkAlignment);
    case ChunkState::kUnsorted:
      return 1;
    case ChunkState::kSmall:
    case ChunkState::kLarge:
      return bin_index(size_bytes);
  }
  return 0;
}

std::vector<SizeClass> size_classes(const Snapshot& snapshot, const Heap& heap, Findings& findings) {
  std::vector<std::vector<SizeClass>> parts(heap.regions.size());
  std::vector<Findings> part_findings(heap.regions.size());
  tbb::parallel_for(std::size_t{0}, heap.regions.size(),
                    [&](std::size_t i) { parts[i] = count_region(snapshot, heap, heap.regions[i], part_findings[i]); });
  std::vector<SizeClass> rows;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    rows.insert(rows.end(), parts[i].begin(), parts[i].end());
    findings.merge(part_findings[i]);
  }
  return merged(rows, [](const SizeClass& row) {
    // Within a state, classes follow each other by size; the last of a tcache's small bins have numbers of their own.
    const std::uint64_t size = row.state == ChunkState::kUnsorted ? 0 : row.smallest_bytes;
    const std::size_t index = class_of(row.state, row.smallest_bytes);
    const std::uint64_t order = index > kBins ? size : index < 64 ? index * kChunkAlignment : index << 12;
    return std::tuple{row.arena, row.state, order};
  });
}

std::vector<SizeClass> sizes_in_use(const Heap& heap, const std::vector<SizeClass>& classes) {
  std::vector<SizeClass> in_use;
  std::copy_if(classes.begin(), classes.end(), std::back_inserter(in_use),
               [](const SizeClass& row) { return row.state == ChunkState::kInUse; });
  std::vector<SizeClass> out =
      merged(in_use, [](const SizeClass& row) { return class_of(row.state, row.smallest_bytes); });
  SizeClass mmapped;
  for (const MmappedChunk& chunk : heap.mmapped) {
    const std::uint64_t bytes = chunk.mapping.size_bytes();
    mmapped.smallest_bytes = mmapped.total.count == 0 ? bytes : std::min(mmapped.smallest_bytes, bytes);
    mmapped.largest_bytes = std::max(mmapped.largest_bytes, bytes);
    mmapped.total.add(bytes);
  }
  if (mmapped.total.count != 0) out.push_back(mmapped);
  return out;
}

}  // namespace heapcore

#include "analysis/block_table.h"

#include <algorithm>
#include <limits>

namespace heapcore {
namespace {

// Blocks that a thread found one after the other at ascending addresses, all of one sort.
struct Run {
  const BlockColumns* columns;
  std::size_t begin;
  std::size_t end;

  Addr first() const { return columns->addresses[begin]; }
  Addr last() const { return columns->addresses[end - 1]; }
};

// A sweep goes through each region in address order, so its findings are a few long runs: sorting those is sorting all.
// Where runs overlap (an object that was met twice) they are cut into single blocks.
std::vector<Run> sorted_runs(const std::vector<BlockColumns>& found) {
  std::vector<Run> runs;
  for (const BlockColumns& columns : found) {
    for (std::size_t begin = 0; begin < columns.addresses.size();) {
      std::size_t end = begin + 1;
      while (end < columns.addresses.size() && columns.addresses[end] > columns.addresses[end - 1]) ++end;
      runs.push_back({&columns, begin, end});
      begin = end;
    }
  }
  const auto by_address = [](const Run& a, const Run& b) { return a.first() < b.first(); };
  std::sort(runs.begin(), runs.end(), by_address);
  std::vector<Run> result;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const bool before = i > 0 && runs[i - 1].last() >= runs[i].first();
    const bool behind = i + 1 < runs.size() && runs[i].last() >= runs[i + 1].first();
    if (!before && !behind) {
      result.push_back(runs[i]);
      continue;
    }
    for (std::size_t at = runs[i].begin; at < runs[i].end; ++at) result.push_back({runs[i].columns, at, at + 1});
  }
  if (result.size() != runs.size()) std::stable_sort(result.begin(), result.end(), by_address);
  return result;
}

}  // namespace

BlockTable::BlockTable(std::vector<BlockColumns> found) {
  std::size_t total = 0;
  std::size_t objects = 0;
  for (const BlockColumns& columns : found) {
    total += columns.addresses.size();
    objects += static_cast<std::size_t>(
        std::count_if(columns.types.begin(), columns.types.end(), [](TypeId type) { return type != kNoType; }));
  }
  // Ids have 32 bits, two of which mean something else; a larger heap is cut off.
  constexpr std::size_t kMost = std::numeric_limits<std::uint32_t>::max() - 16;
  addresses_.reserve(std::min(total, kMost));
  bytes_.reserve(std::min(total, kMost));
  types_.reserve(std::min(objects, kMost));
  const std::vector<Run> runs = sorted_runs(found);
  for (const bool raw : {false, true}) {
    const std::size_t first = addresses_.size();
    for (const Run& run : runs) {
      for (std::size_t i = run.begin; i < run.end; ++i) {
        if ((run.columns->types[i] == kNoType) != raw || addresses_.size() >= kMost) continue;
        const Addr address = run.columns->addresses[i];
        if (addresses_.size() > first && addresses_.back() == address) continue;
        const std::uint64_t bytes = run.columns->bytes[i];
        if (bytes >= kLarge) large_[static_cast<BlockId>(addresses_.size())] = bytes;
        bytes_.push_back(static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes, kLarge)));
        addresses_.push_back(address);
        if (!raw) types_.push_back(run.columns->types[i]);
      }
    }
    if (!raw) objects_ = static_cast<std::uint32_t>(addresses_.size());
  }
  found.clear();
  object_index_ = AddressIndex(std::span(addresses_).first(objects_));
  raw_index_ = AddressIndex(std::span(addresses_).subspan(objects_));
}

}  // namespace heapcore

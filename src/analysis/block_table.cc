#include "analysis/block_table.h"

#include <algorithm>
#include <limits>
#include <queue>

namespace heapcore {
namespace {

// Blocks that a thread found one after the other at ascending addresses, all of one sort.
struct Run {
  const BlockColumns* columns;
  std::size_t begin;
  std::size_t end;

  Addr first() const { return columns->addresses[begin]; }
};

// A sweep goes through each region in address order, so its findings are a few long runs. They may reach over one
// another, as threads take turns; so the run that is behind goes on until another has to.
std::vector<Run> sorted_runs(const std::vector<BlockColumns>& found) {
  const auto later = [](const Run& a, const Run& b) { return a.first() > b.first(); };
  std::priority_queue<Run, std::vector<Run>, decltype(later)> waiting(later);
  for (const BlockColumns& columns : found) {
    for (std::size_t begin = 0; begin < columns.addresses.size();) {
      std::size_t end = begin + 1;
      while (end < columns.addresses.size() && columns.addresses[end] > columns.addresses[end - 1]) ++end;
      waiting.push({&columns, begin, end});
      begin = end;
    }
  }
  std::vector<Run> result;
  while (!waiting.empty()) {
    Run run = waiting.top();
    waiting.pop();
    const std::size_t whole = run.end;
    if (!waiting.empty()) {
      const auto first = run.columns->addresses.begin() + static_cast<std::ptrdiff_t>(run.begin);
      const auto last = run.columns->addresses.begin() + static_cast<std::ptrdiff_t>(run.end);
      run.end = run.begin + static_cast<std::size_t>(std::upper_bound(first, last, waiting.top().first()) - first);
    }
    result.push_back(run);
    if (run.end != whole) waiting.push({run.columns, run.end, whole});
  }
  return result;
}

}  // namespace

void BlockColumns::make_raw(const std::vector<std::pair<Addr, Addr>>& phantoms) {
  if (phantoms.empty()) return;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    if (types[i] == kNoType) continue;
    const auto phantom = std::lower_bound(phantoms.begin(), phantoms.end(), std::pair(addresses[i], Addr{0}));
    if (phantom == phantoms.end() || phantom->first != addresses[i]) continue;
    addresses[i] = phantom->second;
    types[i] = kNoType;
  }
}

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

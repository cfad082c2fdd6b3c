#include "analysis/block_table.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <queue>

namespace heapcore {
namespace {

using Found = BlockColumns::Found;

// Blocks that a thread found one after the other at ascending addresses, and where in the table they go.
struct Run {
  std::span<const Found> found;
  // Of both sorts, objects and raw blocks: how many there are, less the first where that is what the run before ended
  // with; and the place of the first.
  std::uint32_t count[2] = {0, 0};
  std::uint32_t place[2] = {0, 0};
  Addr first[2] = {0, 0};
  Addr last[2] = {0, 0};
  bool skips_first[2] = {false, false};

  Addr begin() const { return found.front().address; }
};

int sort_of(const Found& block) {
  return block.type == kNoType ? 1 : 0;
}

// A sweep goes through each region in address order, so its findings are a few long runs. They may reach over one
// another, as threads take turns; so the run that is behind goes on until another has to.
std::vector<Run> sorted_runs(const std::vector<BlockColumns>& found) {
  using Part = std::span<const Found>;
  const auto later = [](const Part& a, const Part& b) { return a.front().address > b.front().address; };
  std::priority_queue<Part, std::vector<Part>, decltype(later)> waiting(later);
  for (const BlockColumns& columns : found) {
    for (const Column<Found>& part : columns.parts()) {
      for (std::size_t begin = 0; begin < part.size();) {
        std::size_t end = begin + 1;
        while (end < part.size() && part[end].address > part[end - 1].address) ++end;
        waiting.push(Part(part).subspan(begin, end - begin));
        begin = end;
      }
    }
  }
  std::vector<Run> result;
  while (!waiting.empty()) {
    const Part whole = waiting.top();
    waiting.pop();
    std::size_t end = whole.size();
    if (!waiting.empty()) {
      const auto above = [](Addr address, const Found& block) { return address < block.address; };
      const auto at = std::upper_bound(whole.begin(), whole.end(), waiting.top().front().address, above);
      end = static_cast<std::size_t>(at - whole.begin());
    }
    result.emplace_back().found = whole.first(end);
    if (end != whole.size()) waiting.push(whole.subspan(end));
  }
  return result;
}

void count(Run& run) {
  for (const Found& block : run.found) {
    const int sort = sort_of(block);
    if (run.count[sort]++ == 0) run.first[sort] = block.address;
    run.last[sort] = block.address;
  }
}

// Gives each run its places; how many blocks there are of a sort. Within a run no address comes twice, so one that was
// found twice ends a run and begins another.
std::uint32_t place(std::vector<Run>& runs, int sort, std::uint32_t first, std::uint32_t most) {
  std::uint32_t next = first;
  const Run* before = nullptr;
  for (Run& run : runs) {
    if (run.count[sort] == 0) continue;
    run.skips_first[sort] = before != nullptr && before->last[sort] == run.first[sort];
    if (run.skips_first[sort]) --run.count[sort];
    run.count[sort] = std::min(run.count[sort], most - next);
    run.place[sort] = next;
    next += run.count[sort];
    before = &run;
  }
  return next - first;
}

}  // namespace

void BlockColumns::make_raw(const std::vector<std::pair<Addr, Addr>>& phantoms) {
  if (phantoms.empty()) return;
  for (Column<Found>& part : parts_) {
    for (Found& block : part) {
      if (block.type == kNoType) continue;
      const auto phantom = std::lower_bound(phantoms.begin(), phantoms.end(), std::pair(block.address, Addr{0}));
      if (phantom == phantoms.end() || phantom->first != block.address) continue;
      block.address = phantom->second;
      block.type = kNoType;
    }
  }
}

BlockTable::BlockTable(std::vector<BlockColumns> found) {
  // Ids have 32 bits, two of which mean something else; a larger heap is cut off.
  constexpr std::uint32_t kMost = std::numeric_limits<std::uint32_t>::max() - 16;
  std::vector<Run> runs = sorted_runs(found);
  tbb::parallel_for(std::size_t{0}, runs.size(), [&](std::size_t i) { count(runs[i]); });
  objects_ = place(runs, 0, 0, kMost);
  const std::uint32_t raws = place(runs, 1, objects_, kMost);
  for (const BlockColumns& columns : found) large_.insert(columns.large().begin(), columns.large().end());
  addresses_ = Column<Addr>(std::size_t{objects_} + raws);
  bytes_ = Column<std::uint32_t>(addresses_.size());
  types_ = Column<TypeId>(objects_);
  std::atomic<std::uint64_t> total = 0;
  tbb::parallel_for(std::size_t{0}, runs.size(), [&](std::size_t i) {
    Run& run = runs[i];
    std::uint64_t bytes = 0;
    for (const Found& block : run.found) {
      const int sort = sort_of(block);
      if (run.skips_first[sort] || run.count[sort] == 0) {
        run.skips_first[sort] = false;
        continue;
      }
      --run.count[sort];
      const std::uint32_t id = run.place[sort]++;
      addresses_[id] = block.address;
      bytes_[id] = block.bytes;
      bytes += block.bytes == BlockColumns::kLarge ? large_.at(block.address) : block.bytes;
      if (sort == 0) types_[id] = block.type;
    }
    total += bytes;
  });
  total_bytes_ = total;
  found.clear();
  index_ = AddressIndex(std::span(addresses_).first(objects_), std::span(addresses_).subspan(objects_));
}

}  // namespace heapcore

#include "support/finding.h"

#include <algorithm>
#include <tuple>

namespace heapcore {

std::string_view room_name(Room room) {
  switch (room) {
    case Room::kCoreparse:
      return "coreparse";
    case Room::kGlibcHeap:
      return "glibc_heap";
    case Room::kPyobj:
      return "pyobj";
    case Room::kAnalysis:
      return "analysis";
  }
  return "";
}

std::uint64_t& Findings::counter(std::string_view code) {
  for (Seen& entry : seen_) {
    if (entry.code == code) return entry.times;
  }
  seen_.push_back({code, 0});
  return seen_.back().times;
}

void Findings::add(Finding finding) {
  incomplete_ = incomplete_ || finding.incomplete;
  if (counter(finding.code)++ < kKeptPerCode) {
    kept_.push_back(std::move(finding));
    return;
  }
  const auto place = [](const Finding& f) { return std::tie(f.address, f.detail); };
  Finding* highest = nullptr;
  for (Finding& kept : kept_) {
    if (kept.code == finding.code && (highest == nullptr || place(kept) > place(*highest))) highest = &kept;
  }
  if (highest != nullptr && place(finding) < place(*highest)) *highest = std::move(finding);
}

void Findings::sort() {
  std::sort(kept_.begin(), kept_.end(), [](const Finding& a, const Finding& b) {
    return std::tie(a.room, a.code, a.address, a.detail) < std::tie(b.room, b.code, b.address, b.detail);
  });
}

void Findings::note(std::string_view code, Room room, Addr address, std::string detail) {
  add({code, room, address, std::move(detail), false});
}

void Findings::merge(const Findings& other) {
  incomplete_ = incomplete_ || other.incomplete_;
  for (const Finding& finding : other.kept_) add(finding);
  for (const Seen& entry : other.seen_) {
    const std::uint64_t kept = std::min(entry.times, kKeptPerCode);
    counter(entry.code) += entry.times - kept;
  }
}

std::uint64_t Findings::count(std::string_view code) const {
  for (const Seen& entry : seen_) {
    if (entry.code == code) return entry.times;
  }
  return 0;
}

}  // namespace heapcore

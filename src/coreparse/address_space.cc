#include "coreparse/address_space.h"

#include <algorithm>

namespace heapcore {
namespace {

// `segment` restricted to [start, end). REQUIRES: the range lies within it.
Segment clip(const Segment& segment, Addr start, Addr end) {
  Segment part = segment;
  part.start = start;
  part.end = end;
  if (segment.bytes != nullptr) part.bytes = segment.bytes + (start - segment.start);
  return part;
}

// Appends, joining with the last segment where both address and storage run on.
void append(std::vector<Segment>& out, const Segment& segment) {
  if (segment.start >= segment.end) return;
  if (!out.empty()) {
    Segment& last = out.back();
    const bool alike = last.end == segment.start && last.state == segment.state && last.from_file == segment.from_file;
    const bool contiguous =
        last.bytes == nullptr ? segment.bytes == nullptr : last.bytes + last.size_bytes() == segment.bytes;
    if (alike && contiguous) {
      last.end = segment.end;
      return;
    }
  }
  out.push_back(segment);
}

// Sorted and disjoint, of a list in any order. Adds to `claimed_twice` the bytes dropped.
std::vector<Segment> normalise(std::vector<Segment> segments, std::uint64_t& claimed_twice) {
  std::stable_sort(segments.begin(), segments.end(),
                   [](const Segment& a, const Segment& b) { return a.start < b.start; });
  std::vector<Segment> out;
  out.reserve(segments.size());
  Addr covered = 0;
  for (const Segment& segment : segments) {
    if (segment.end <= segment.start) continue;
    const Addr start = std::max(segment.start, covered);
    claimed_twice += std::min(segment.end, start) - segment.start;
    if (start < segment.end) {
      append(out, clip(segment, start, segment.end));
      covered = segment.end;
    }
  }
  return out;
}

}  // namespace

std::uint64_t AddressSpace::assign(std::vector<Segment> segments) {
  std::uint64_t claimed_twice = 0;
  segments_ = normalise(std::move(segments), claimed_twice);
  return claimed_twice;
}

void AddressSpace::overlay(std::vector<Segment> extra) {
  std::uint64_t ignored = 0;
  const std::vector<Segment> fill = normalise(std::move(extra), ignored);
  std::vector<Segment> out;
  out.reserve(segments_.size() + fill.size());

  auto next = fill.begin();
  // Emits what `fill` has in [from, to), and `beneath` (if any) in between.
  const auto emit_filled = [&](Addr from, Addr to, const Segment* beneath) {
    while (next != fill.end() && next->end <= from) ++next;
    auto it = next;
    Addr at = from;
    while (at < to) {
      while (it != fill.end() && it->end <= at) ++it;
      const Addr fill_start = it == fill.end() ? to : std::clamp(it->start, at, to);
      if (fill_start > at && beneath != nullptr) append(out, clip(*beneath, at, fill_start));
      at = fill_start;
      if (at >= to) break;
      const Addr fill_end = std::min(it->end, to);
      append(out, clip(*it, at, fill_end));
      at = fill_end;
    }
  };

  Addr at = 0;
  for (const Segment& segment : segments_) {
    emit_filled(at, segment.start, nullptr);
    if (segment.state == ByteState::kNotDumped) {
      emit_filled(segment.start, segment.end, &segment);
    } else {
      append(out, segment);
    }
    at = segment.end;
  }
  emit_filled(at, ~Addr{0}, nullptr);
  segments_ = std::move(out);
}

std::size_t AddressSpace::lower_index(Addr address) const {
  const auto it = std::upper_bound(segments_.begin(), segments_.end(), address,
                                   [](Addr a, const Segment& segment) { return a < segment.end; });
  return static_cast<std::size_t>(it - segments_.begin());
}

const Segment* AddressSpace::find(Addr address) const {
  const std::size_t index = lower_index(address);
  if (index == segments_.size() || segments_[index].start > address) return nullptr;
  return &segments_[index];
}

ByteState AddressSpace::state(Addr address) const {
  const Segment* segment = find(address);
  return segment == nullptr ? ByteState::kUnmapped : segment->state;
}

Addr AddressSpace::next_present(Addr from) const {
  for (std::size_t i = lower_index(from); i < segments_.size(); ++i) {
    if (segments_[i].bytes != nullptr) return std::max(from, segments_[i].start);
  }
  return ~Addr{0};
}

bool Reader::seek(Addr address) {
  const Segment* segment = space_->find(address);
  if (segment == nullptr || segment->bytes == nullptr) return false;
  start_ = segment->start;
  size_ = segment->size_bytes();
  bytes_ = segment->bytes;
  return true;
}

bool Reader::read(Addr address, std::span<std::byte> out) {
  while (!out.empty()) {
    const Segment* segment = space_->find(address);
    if (segment == nullptr || segment->state == ByteState::kNotDumped) return false;
    const std::size_t n = std::min<std::uint64_t>(out.size(), segment->end - address);
    if (segment->bytes != nullptr) {
      std::memcpy(out.data(), segment->bytes + (address - segment->start), n);
    } else {
      std::memset(out.data(), 0, n);
    }
    out = out.subspan(n);
    address += n;
  }
  return true;
}

std::optional<std::string> Reader::c_string(Addr address, std::size_t max_bytes) {
  std::string text;
  while (text.size() <= max_bytes) {
    const std::span<const std::byte> rest = span_to_end(address);
    if (rest.empty()) return std::nullopt;  // zero-fill holds no text worth having
    const std::size_t n = std::min(rest.size(), max_bytes + 1 - text.size());
    const void* nul = std::memchr(rest.data(), 0, n);
    const std::size_t length = nul == nullptr ? n : static_cast<const std::byte*>(nul) - rest.data();
    text.append(reinterpret_cast<const char*>(rest.data()), length);
    if (nul != nullptr) return text;
    address += n;
  }
  return std::nullopt;
}

}  // namespace heapcore

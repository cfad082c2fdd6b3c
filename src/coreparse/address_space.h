// One view of the target's memory, whatever it was read from.
//
// Each byte of the 64-bit address range is exactly one of
//   present     its value is known: from the core, from the live copy, or from a mapped file whose identity was
//   checked; zero-fill   mapped, and known to be zero although nobody stored the zeros; not dumped  mapped in the
//   process, but its value is in nothing that we were given; unmapped    the process had nothing there.
//
// Invariants: segments() is sorted by address and disjoint; a present segment's `bytes` is valid for its whole length
// and for the life of the Snapshot that owns the storage. Immutable once built, so any number of threads may read it.
//
// Does not: know which mapping or module an address belongs to (see Snapshot), nor own any memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "support/addr.h"

namespace heapcore {

enum class ByteState : std::uint8_t { kPresent, kZeroFill, kNotDumped, kUnmapped };

struct Segment {
  Addr start = 0;
  Addr end = 0;
  const std::byte* bytes = nullptr;  // of `start`; null unless present
  ByteState state = ByteState::kNotDumped;
  bool from_file = false;  // read from a mapped file, not from the core or the process

  std::uint64_t size_bytes() const { return end - start; }
};

class AddressSpace {
 public:
  AddressSpace() = default;

  // Takes segments in any order, possibly overlapping (a hostile core's may). Where two overlap, the one with the lower
  // start keeps the bytes (of equal starts the one given first). Returns how many bytes were claimed twice.
  // O(n log n) whatever the overlaps.
  std::uint64_t assign(std::vector<Segment> segments);

  // Adds segments where nothing is known yet: over gaps and over not-dumped bytes. Present bytes are never replaced.
  void overlay(std::vector<Segment> extra);

  std::span<const Segment> segments() const { return segments_; }

  // The segment that holds `address`, or null where it is unmapped.
  const Segment* find(Addr address) const;
  // The first segment that ends above `address`; segments().size() if none does.
  std::size_t lower_index(Addr address) const;
  ByteState state(Addr address) const;
  // The first present byte at or after `from`; the highest address there is if none follows. Whoever walks memory steps
  // over what is not there with this: mappings can be terabytes of nothing.
  Addr next_present(Addr from) const;

 private:
  std::vector<Segment> segments_;
};

// A cheap cursor over an AddressSpace: remembers the segment it last read from. One for each thread; not shared.
class Reader {
 public:
  explicit Reader(const AddressSpace& space) : space_(&space) {}

  const AddressSpace& space() const { return *space_; }

  // The n bytes at `address` without copying; empty unless all lie in one present segment.
  std::span<const std::byte> span(Addr address, std::uint64_t n) {
    if (address - start_ >= size_ && !seek(address)) return {};
    const std::uint64_t offset = address - start_;
    if (n > size_ - offset) return {};
    return {bytes_ + offset, n};
  }

  // From `address` to the end of what is present there without a break; empty if nothing is.
  std::span<const std::byte> span_to_end(Addr address) {
    if (address - start_ >= size_ && !seek(address)) return {};
    return {bytes_ + (address - start_), size_ - (address - start_)};
  }

  template <typename T>
  bool try_load(Addr address, T& value) {
    const std::span<const std::byte> bytes = span(address, sizeof(T));
    if (bytes.empty()) return read(address, {reinterpret_cast<std::byte*>(&value), sizeof(T)});
    std::memcpy(&value, bytes.data(), sizeof(T));
    return true;
  }

  template <typename T>
  std::optional<T> load(Addr address) {
    T value;
    if (!try_load(address, value)) return std::nullopt;
    return value;
  }

  // Copies across segments; zero-fill reads as zeros. False, with `out` unspecified, if any byte is neither.
  bool read(Addr address, std::span<std::byte> out);

  // The NUL-terminated text at `address`, without the NUL; nothing if it is not there or longer than max_bytes.
  std::optional<std::string> c_string(Addr address, std::size_t max_bytes = 4096);

 private:
  bool seek(Addr address);

  const AddressSpace* space_;
  Addr start_ = 0;
  std::uint64_t size_ = 0;
  const std::byte* bytes_ = nullptr;
};

}  // namespace heapcore

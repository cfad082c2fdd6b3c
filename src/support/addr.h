// Addresses in the target, and arithmetic on them that cannot wrap.
//
// An Addr is a virtual address of the process under analysis. It is never a pointer of ours: bytes behind it are
// reached only through coreparse's Reader.
#pragma once

#include <cstdint>
#include <optional>

namespace heapcore {

using Addr = std::uint64_t;

constexpr Addr align_down(Addr value, std::uint64_t power_of_two) {
  return value & ~(power_of_two - 1);
}

// REQUIRES: value + power_of_two - 1 does not wrap (true of every user-space address).
constexpr Addr align_up(Addr value, std::uint64_t power_of_two) {
  return align_down(value + power_of_two - 1, power_of_two);
}

constexpr bool is_aligned(Addr value, std::uint64_t power_of_two) {
  return (value & (power_of_two - 1)) == 0;
}

constexpr std::optional<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) {
  std::uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

constexpr std::optional<std::uint64_t> checked_mul(std::uint64_t a, std::uint64_t b) {
  std::uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

// Half-open [start, end). Invariant: start <= end.
struct AddrRange {
  Addr start = 0;
  Addr end = 0;

  constexpr std::uint64_t size_bytes() const { return end - start; }
  constexpr bool empty() const { return start == end; }
  constexpr bool contains(Addr a) const { return a >= start && a < end; }
  constexpr bool contains(Addr a, std::uint64_t n) const { return a >= start && a <= end && n <= end - a; }
  constexpr bool operator==(const AddrRange&) const = default;
};

}  // namespace heapcore

// Numbers that look random and depend on nothing but the seed: splitmix64, whatever the C++ library.
#pragma once

#include <cstdint>
#include <span>

namespace heapcore::damage {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15ULL;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  // REQUIRES: n != 0.
  std::uint64_t below(std::uint64_t n) { return next() % n; }
  // REQUIRES: `of` is not empty.
  template <typename Container>
  const auto& one(const Container& of) {
    return of[below(std::size(of))];
  }

 private:
  std::uint64_t state_;
};

}  // namespace heapcore::damage

// A number of things and their bytes together: the figure that nearly every answer is made of.
#pragma once

#include <cstdint>

namespace heapcore {

struct CountBytes {
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;

  void add(std::uint64_t n) {
    ++count;
    bytes += n;
  }
  CountBytes& operator+=(const CountBytes& other) {
    count += other.count;
    bytes += other.bytes;
    return *this;
  }
  bool operator==(const CountBytes&) const = default;
};

}  // namespace heapcore

// A vector for what is as long as a heap. Where it is large it lies in huge pages, so that the kernel has few pages to
// give; and what one column is done with the next one gets, since to get memory from the kernel takes as long as much
// of what is done with it.
//
// Column<T>(n) of a trivial T is not set to anything; Column<T>(n, T()) is.
#pragma once

#include <cstddef>
#include <limits>
#include <new>
#include <utility>
#include <vector>

namespace heapcore {

// Thread-safe. `size_bytes` of anything; throws std::bad_alloc. To be released with the same size.
void* allocate_column(std::size_t size_bytes);
void release_column(void* memory, std::size_t size_bytes) noexcept;

template <typename T>
class ColumnAllocator {
 public:
  using value_type = T;

  ColumnAllocator() = default;
  template <typename U>
  explicit(false) ColumnAllocator(const ColumnAllocator<U>& /*other*/) noexcept {}

  T* allocate(std::size_t n) {
    if (n > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_array_new_length();
    return static_cast<T*>(allocate_column(n * sizeof(T)));
  }
  void deallocate(T* memory, std::size_t n) noexcept { release_column(memory, n * sizeof(T)); }

  template <typename U>
  void construct(U* at) noexcept {
    ::new (static_cast<void*>(at)) U;  // not U(): that writes
  }
  template <typename U, typename... Args>
  void construct(U* at, Args&&... args) {
    ::new (static_cast<void*>(at)) U(std::forward<Args>(args)...);
  }

  friend bool operator==(const ColumnAllocator& /*a*/, const ColumnAllocator& /*b*/) { return true; }
};

template <typename T>
using Column = std::vector<T, ColumnAllocator<T>>;

}  // namespace heapcore

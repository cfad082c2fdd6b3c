#include "support/column.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>
#include <new>

namespace heapcore {
namespace {

constexpr std::size_t kHugePageBytes = std::size_t{1} << 21;
// Columns are multiples of this; smaller ones are malloc's.
constexpr std::size_t kPieceBytes = std::size_t{1} << 16;
// Got from the kernel at a time; what of it is never touched costs nothing.
constexpr std::size_t kSlabBytes = std::size_t{1} << 28;

std::size_t round_up(std::size_t size_bytes, std::size_t to) {
  return (size_bytes + to - 1) & ~(to - 1);
}

// Only what begins at a multiple of its size can be a huge page. Null if the kernel refuses.
std::byte* map_pages(std::size_t size_bytes) {
  const std::size_t wanted = size_bytes + kHugePageBytes;
  void* mapped = mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* const first = static_cast<std::byte*>(mapped);
  const std::size_t before = -reinterpret_cast<std::uintptr_t>(mapped) & (kHugePageBytes - 1);
  if (before != 0) munmap(first, before);
  munmap(first + before + size_bytes, kHugePageBytes - before);
  madvise(first + before, size_bytes, MADV_HUGEPAGE);  // where the kernel has none, small ones do
  return first + before;
}

// What is free: pieces by address, neighbours joined. The highest place that fits is taken, so that the lowest may
// remain untouched.
class Spare {
 public:
  void* take(std::size_t size_bytes) {
    const std::lock_guard lock(mutex_);
    if (std::byte* const found = find(size_bytes)) return found;
    for (const std::size_t slab :
         {std::max(kSlabBytes, round_up(size_bytes, kHugePageBytes)), round_up(size_bytes, kHugePageBytes)}) {
      std::byte* const mapped = map_pages(slab);
      if (mapped == nullptr) continue;
      add(mapped, slab);
      return find(size_bytes);
    }
    throw std::bad_alloc();
  }

  void give(std::byte* first, std::size_t size_bytes) {
    const std::lock_guard lock(mutex_);
    try {
      add(first, size_bytes);
    } catch (const std::bad_alloc&) {
      munmap(first, size_bytes);
    }
  }

 private:
  std::byte* find(std::size_t size_bytes) {
    for (auto piece = pieces_.end(); piece != pieces_.begin();) {
      --piece;
      if (piece->second < size_bytes) continue;
      piece->second -= size_bytes;
      std::byte* const found = piece->first + piece->second;
      if (piece->second == 0) pieces_.erase(piece);
      return found;
    }
    return nullptr;
  }

  void add(std::byte* first, std::size_t size_bytes) {
    auto piece = pieces_.emplace(first, size_bytes).first;
    if (const auto next = std::next(piece); next != pieces_.end() && first + size_bytes == next->first) {
      piece->second += next->second;
      pieces_.erase(next);
    }
    if (piece == pieces_.begin()) return;
    if (const auto before = std::prev(piece); before->first + before->second == piece->first) {
      before->second += piece->second;
      pieces_.erase(piece);
    }
  }

  std::mutex mutex_;
  std::map<std::byte*, std::size_t> pieces_;
};

// Never destroyed: what is static may hold columns.
Spare& spare() {
  static Spare& pieces = *new Spare;
  return pieces;
}

}  // namespace

void* allocate_column(std::size_t size_bytes) {
  if (size_bytes < kPieceBytes) {
    void* memory = std::malloc(size_bytes == 0 ? 1 : size_bytes);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
  }
  if (size_bytes > std::numeric_limits<std::size_t>::max() / 2) throw std::bad_alloc();
  return spare().take(round_up(size_bytes, kPieceBytes));
}

void release_column(void* memory, std::size_t size_bytes) noexcept {
  if (size_bytes < kPieceBytes) {
    std::free(memory);
    return;
  }
  try {
    spare().give(static_cast<std::byte*>(memory), round_up(size_bytes, kPieceBytes));
  } catch (const std::bad_alloc&) {
    munmap(memory, round_up(size_bytes, kPieceBytes));
  }
}

}  // namespace heapcore

// How a glibc's malloc behaves. This and glibc_traits.cc are the only place where versions are told apart.
//
// Traits follow from the shape of the structures (which fields a layout has), or are found in the target's own lists,
// because distributions backport: the version string only names things in the answer.
#pragma once

#include <cstdint>
#include <string_view>

#include "glibc_heap/glibc_layout.h"
#include "support/addr.h"

namespace heapcore {

// How the `next` of a tcache entry and the `fd` of a fastbin chunk are stored.
enum class LinkEncoding : std::uint8_t {
  kPlain,        // before 2.32
  kSafeLinking,  // since 2.32 (commit a1a486d70ebc): stored = (address of the field >> 12) ^ pointer
};

enum class TcacheKind : std::uint8_t {
  kNone,         // before 2.26
  kCharCounts,   // 2.26: one byte a bin, the length of its list
  kShortCounts,  // 2.30 (and backports): two bytes a bin
  kSlotsLeft,    // 2.42: two bytes a bin that count down from mp_.tcache_count; 12 bins of large chunks follow the 64
                 // small
};

enum class MmappedRule : std::uint8_t {
  kSizeFillsMapping,  // before 2.43: mapping = prev_size + size; usable = size - 16
  kSizeLacksHeader,   // since 2.43: mapping = prev_size + size + 16; usable = size - 8
};

struct GlibcTraits {
  bool fastbins = true;  // until 2.42
  LinkEncoding links = LinkEncoding::kSafeLinking;
  TcacheKind tcache = TcacheKind::kShortCounts;
  MmappedRule mmapped = MmappedRule::kSizeFillsMapping;
  // Every heap of a thread arena starts at a multiple of this (HEAP_MAX_SIZE); 2.35 to 2.41 can be tuned to use more.
  std::uint64_t heap_max_bytes = std::uint64_t{64} << 20;

  bool operator==(const GlibcTraits&) const = default;
};

// What the layout alone says. `links` is then the likeliest guess, to be replaced by what the lists show.
GlibcTraits traits_of(const GlibcLayout& layout);

// HEAP_MAX_SIZE, given mp_.hp_pagesize (0 unless glibc.malloc.hugetlb is tuned).
std::uint64_t heap_max_bytes(const GlibcLayout& layout, std::uint64_t huge_page_bytes);

// Facts of x86-64 and aarch64 that no version changed.
constexpr std::uint64_t kChunkHeaderBytes = 16;  // CHUNK_HDR_SZ: mchunk_prev_size and mchunk_size
constexpr std::uint64_t kMinChunkBytes = 32;     // MINSIZE
constexpr std::uint64_t kChunkAlignment = 16;    // MALLOC_ALIGNMENT
constexpr std::uint64_t kPrevInUse = 1;
constexpr std::uint64_t kIsMmapped = 2;
constexpr std::uint64_t kNonMainArena = 4;
constexpr std::uint64_t kSizeFlags = 7;
constexpr std::uint64_t kNonContiguous = 2;          // in malloc_state.flags
constexpr std::uint64_t kMinLargeChunkBytes = 1024;  // MIN_LARGE_SIZE
constexpr unsigned kBins = 127;                      // numbered 1 to 126 (127 is never used); 1 is the unsorted list

// The bin that holds free chunks of this size (bin_index); 2 to 126. REQUIRES: size_bytes >= kMinChunkBytes.
unsigned bin_index(std::uint64_t size_bytes);

// Decodes a stored link that lies at `field`.
constexpr Addr decode_link(LinkEncoding links, Addr field, std::uint64_t stored) {
  return links == LinkEncoding::kSafeLinking ? (field >> 12) ^ stored : stored;
}

// Bytes a program may use of a chunk. Those of a mmapped chunk depend on the rule.
constexpr std::uint64_t usable_bytes(std::uint64_t chunk_bytes) {
  return chunk_bytes - 8;
}
constexpr std::uint64_t mmapped_usable_bytes(MmappedRule rule, std::uint64_t chunk_bytes) {
  return rule == MmappedRule::kSizeFillsMapping ? chunk_bytes - 16 : chunk_bytes - 8;
}

}  // namespace heapcore

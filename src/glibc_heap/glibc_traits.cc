#include "glibc_heap/glibc_traits.h"

namespace heapcore {

GlibcTraits traits_of(const GlibcLayout& layout) {
  GlibcTraits traits;
  const auto& tcache = layout.tcache_perthread_struct;
  traits.fastbins = layout.malloc_state.fastbinsY.present();
  if (tcache.size_bytes == 0) {
    traits.tcache = TcacheKind::kNone;
  } else if (tcache.num_slots.present()) {
    traits.tcache = TcacheKind::kSlotsLeft;
  } else {
    // One count for each pointer of `entries`.
    const bool bytes = tcache.counts.width_bytes == tcache.entries.width_bytes / 8;
    traits.tcache = bytes ? TcacheKind::kCharCounts : TcacheKind::kShortCounts;
  }
  // 2.43 removed fastbins and changed the rule in the same release.
  traits.mmapped = traits.fastbins ? MmappedRule::kSizeFillsMapping : MmappedRule::kSizeLacksHeader;
  // Safe-linking (2.32) changed no structure; the nearest that did is heap_info.pagesize (2.35).
  traits.links = layout._heap_info.pagesize.present() ? LinkEncoding::kSafeLinking : LinkEncoding::kPlain;
  return traits;
}

// arena.c: 64 MiB always, except that 2.35 to 2.41 follow a tuned huge page size. 2.42 is known by its tcache.
std::uint64_t heap_max_bytes(const GlibcLayout& layout, std::uint64_t huge_page_bytes) {
  const bool follows = layout.malloc_par.hp_pagesize.present() && !layout.tcache_perthread_struct.num_slots.present();
  const bool sane = huge_page_bytes != 0 && huge_page_bytes <= std::uint64_t{1} << 40;
  return follows && sane ? 4 * huge_page_bytes : GlibcTraits{}.heap_max_bytes;
}

// largebin_index_64 and smallbin_index (malloc.c, unchanged from 2.17 to 2.44): steps of 16, then 64, 512, 4096, 32768,
// 262144.
unsigned bin_index(std::uint64_t size_bytes) {
  if (size_bytes < kMinLargeChunkBytes) return static_cast<unsigned>(size_bytes >> 4);
  if ((size_bytes >> 6) <= 48) return 48 + static_cast<unsigned>(size_bytes >> 6);
  if ((size_bytes >> 9) <= 20) return 91 + static_cast<unsigned>(size_bytes >> 9);
  if ((size_bytes >> 12) <= 10) return 110 + static_cast<unsigned>(size_bytes >> 12);
  if ((size_bytes >> 15) <= 4) return 119 + static_cast<unsigned>(size_bytes >> 15);
  if ((size_bytes >> 18) <= 2) return 124 + static_cast<unsigned>(size_bytes >> 18);
  return 126;
}

}  // namespace heapcore

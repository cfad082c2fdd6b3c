// Pages of malloc's that malloc_trim(0) cannot give back although little of them is live.
//
// malloc_trim releases the whole pages inside free chunks, once neighbours are joined. So a page stays if any of it is
// live; and so does one without anything live in which the links of a free chunk lie, if something lives right before
// that. Such a page goes with the page before it. Chunks in a tcache or a fastbin count as free: what they hold back is
// not for live objects to change.
#pragma once

#include <cstdint>
#include <vector>

#include "coreparse/address_space.h"
#include "glibc_heap/chunks.h"
#include "glibc_heap/heap.h"
#include "support/finding.h"

namespace heapcore {

struct PinnedPage {
  AddrRange range;               // of one page, and of those behind it that only links keep
  std::uint64_t live_bytes = 0;  // never 0

  std::uint64_t kept_bytes() const { return range.size_bytes() - live_bytes; }
};

// Fed with the chunks of one region in address order.
class PinnedPages {
 public:
  // Pages of which `below_percent` or more is live are well used. REQUIRES: page_bytes is a power of two.
  PinnedPages(AddrRange region, std::uint64_t page_bytes, std::uint64_t links_bytes, unsigned below_percent);

  void see(const Chunk& chunk);
  std::vector<PinnedPage> finish();

 private:
  struct Page {
    std::uint32_t live_bytes = 0;
    std::uint32_t free_bytes = 0;
    bool goes_back = false;
  };

  void close_free_run();
  bool is_pinned(const Page& page) const;

  Addr first_page_;
  std::uint64_t page_bytes_;
  std::uint64_t links_bytes_;
  unsigned below_percent_;
  std::vector<Page> pages_;
  AddrRange free_run_;
};

// Of one region of the heap.
std::vector<PinnedPage> pinned_pages(const Heap& heap, Reader& reader, const Region& region, unsigned below_percent,
                                     Findings& findings);

}  // namespace heapcore

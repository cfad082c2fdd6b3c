#include "analysis/pinned_pages.h"

#include <algorithm>

namespace heapcore {

PinnedPages::PinnedPages(AddrRange region, std::uint64_t page_bytes, std::uint64_t links_bytes, unsigned below_percent)
    : first_page_(align_down(region.start, page_bytes)),
      page_bytes_(page_bytes),
      links_bytes_(links_bytes),
      below_percent_(below_percent),
      pages_((align_up(region.end, page_bytes) - first_page_) / page_bytes) {}

void PinnedPages::see(const Chunk& chunk) {
  const AddrRange range = {chunk.address, chunk.address + chunk.size_bytes};
  if (chunk.in_use()) {
    close_free_run();
  } else if (free_run_.end == range.start) {
    free_run_.end = range.end;
  } else {
    close_free_run();
    free_run_ = range;
  }
  for (Addr at = range.start; at < range.end;) {
    const std::size_t index = (at - first_page_) / page_bytes_;
    if (index >= pages_.size()) return;
    const Addr end = std::min(range.end, first_page_ + (index + 1) * page_bytes_);
    // Pages inside one chunk need no more than their state.
    (chunk.in_use() ? pages_[index].live_bytes : pages_[index].free_bytes) += static_cast<std::uint32_t>(end - at);
    at = end;
  }
}

// Of a run of free chunks the whole pages behind the links go back.
void PinnedPages::close_free_run() {
  if (free_run_.empty()) return;
  const Addr end = align_down(free_run_.end, page_bytes_);
  for (Addr at = align_up(free_run_.start + links_bytes_, page_bytes_); at < end; at += page_bytes_) {
    const std::size_t index = (at - first_page_) / page_bytes_;
    if (index >= pages_.size()) break;
    pages_[index].goes_back = true;
  }
  free_run_ = {};
}

// Of what is damaged or not there nothing is known, and pages that are partly another's never go back.
bool PinnedPages::is_pinned(const Page& page) const {
  return !page.goes_back && std::uint64_t{page.live_bytes} + page.free_bytes == page_bytes_ &&
         std::uint64_t{page.live_bytes} * 100 < page_bytes_ * below_percent_;
}

std::vector<PinnedPage> PinnedPages::finish() {
  close_free_run();
  std::vector<PinnedPage> pinned;
  for (std::size_t i = 0; i < pages_.size();) {
    const std::size_t first = i++;
    // Links in a page before it are there with or without what lives behind.
    if (!is_pinned(pages_[first]) || pages_[first].live_bytes == 0) continue;
    while (i < pages_.size() && is_pinned(pages_[i]) && pages_[i].live_bytes == 0) ++i;
    pinned.push_back({{first_page_ + first * page_bytes_, first_page_ + i * page_bytes_}, pages_[first].live_bytes});
  }
  return pinned;
}

std::vector<PinnedPage> pinned_pages(const Heap& heap, Reader& reader, const Region& region, unsigned below_percent,
                                     Findings& findings) {
  PinnedPages pages(region.range, heap.page_bytes, heap.layout.malloc_chunk.size_bytes, below_percent);
  for_each_chunk(heap, reader, region, findings, [&](const Chunk& chunk) { pages.see(chunk); });
  return pages.finish();
}

}  // namespace heapcore

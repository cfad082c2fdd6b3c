#include "analysis/stock.h"

#include "glibc_heap/census.h"
#include "pyobj/mimalloc.h"

namespace heapcore {

Stock take_stock(Process& process, const Census* census, Progress& progress, Timings& timings) {
  Stock stock;
  // The census has met, and reported, whatever is damaged in pools and chunks.
  Findings reported_by_census;
  Findings& findings = census != nullptr ? reported_by_census : process.findings;
  progress.begin("walk", 0);
  timings.time("walk", [&] {
    if (process.runtime() != nullptr) {
      stock.obmalloc = summarise_allocator(process.snapshot, *process.runtime(), findings);
    }
    if (Heap* heap = process.heap()) count_chunks(process.snapshot, *heap, findings);
  });
  progress.begin("summarise", 0);
  timings.time("summarise", [&] {
    stock.ledger = make_ledger(process, census, stock.obmalloc ? &*stock.obmalloc : nullptr, process.findings);
  });
  return stock;
}

}  // namespace heapcore

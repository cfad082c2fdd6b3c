#include "analysis/stock.h"

#include "glibc_heap/census.h"
#include "pyobj/mimalloc.h"

namespace heapcore {

Stock take_stock(Process& process, Progress& progress, Timings& timings) {
  Stock stock;
  if (process.runtime() != nullptr) {
    stock.census = timings.time("decode", [&] { return take_census(process, progress, process.findings); });
  }
  // The census has met, and reported, whatever is damaged in pools and chunks.
  Findings reported_by_census;
  Findings& findings = stock.census ? reported_by_census : process.findings;
  timings.time("walk", [&] {
    if (process.runtime() != nullptr) {
      stock.obmalloc = summarise_allocator(process.snapshot, *process.runtime(), findings);
    }
    if (Heap* heap = process.heap()) count_chunks(process.snapshot, *heap, findings);
  });
  timings.time("summarise", [&] {
    stock.ledger = make_ledger(process, stock.census ? &*stock.census : nullptr,
                               stock.obmalloc ? &*stock.obmalloc : nullptr, process.findings);
  });
  return stock;
}

}  // namespace heapcore

// What of a process's memory is copied, where to, and the copying. Private to coreparse.
//
// The host side mirrors the target: memory that is to be copied is grouped into regions (program and brk heap; mmap
// area; stack), and within a region an address lies at the same distance from the region's start as in the target. So
// mappings may grow, split or join between planning and stopping without moving a byte, and neighbours are contiguous
// here too. Host memory is taken only for pages that the target holds: the rest of a region is address space that reads
// as zero, which is what pages hold that a process never touched.
//
// Reads with process_vm_readv(2); never writes to the target. Does not stop it: see live_ptrace.h.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "coreparse/image.h"
#include "coreparse/live_proc.h"
#include "coreparse/snapshot.h"
#include "support/addr.h"
#include "support/progress.h"
#include "support/result.h"

namespace heapcore::live {

enum class CopyRule : std::uint8_t {
  kNone,          // not needed, or not to be touched (devices, the kernel's clock pages)
  kHeldPages,     // anonymous memory: what is neither in memory nor in swap is zero
  kWhole,         // small private file mappings that may be written to, and the vdso
  kWrittenPages,  // other private file mappings: pages written to, all of RELRO, the ELF header; the file has the rest
};

CopyRule copy_rule(const Mapping& mapping);

// Invariant: `runs` are sorted, disjoint and whole pages.
struct CopyPlan {
  std::int32_t tid = 0;  // a thread to reach the memory through; 0 if all have ended
  std::vector<Mapping> mappings;
  std::vector<CopyRule> rules;  // of each mapping
  std::vector<AddrRange> runs;
  std::uint64_t bytes = 0;  // in runs
  bool pages_known = true;  // false if the kernel does not say which pages are held; then whole mappings are copied

  // False if the process has ended, or was just about to become another in an exec.
  bool readable() const { return !mappings.empty(); }
};

// Reads the process's maps and page map. While it runs, the result is only an estimate.
CopyPlan plan_copy(const ProcDir& proc, PageMap::Method method = PageMap::Method::kScan);

class HostMemory {
 public:
  // Reserves address space for the runs and some growth around them.
  Status reserve(std::span<const AddrRange> runs);
  // Takes the memory now, so that copying need not.
  Status fault_in(std::span<const AddrRange> runs, Progress& progress);
  // Reserves for what of the runs lies in no region yet.
  Status reserve_missing(std::span<const AddrRange> runs);
  std::uint64_t missing_bytes(std::span<const AddrRange> runs) const;

  struct Region {
    Addr start = 0;
    Addr end = 0;
    std::byte* bytes = nullptr;
  };
  // Sorted, disjoint.
  std::span<const Region> regions() const { return regions_; }
  // The first region that ends above `address`; null if there is none.
  const Region* region_from(Addr address) const;
  // REQUIRES: a region holds it.
  std::byte* host(Addr address) const;

  std::vector<Image> take_images() { return std::move(images_); }

 private:
  Status add_regions(std::vector<Region> regions);
  std::vector<AddrRange> missing(std::span<const AddrRange> runs) const;

  std::vector<Region> regions_;
  std::vector<Image> images_;
};

// Memory of the target, and where its copy goes. Whole pages.
struct Piece {
  AddrRange from;
  std::byte* to = nullptr;
};
inline constexpr std::size_t kMostPieces = 256;  // at once; well below IOV_MAX

// Copies them; pages that cannot be read become zeros, and are appended to `unreadable`. False if the process is gone.
// REQUIRES: at most kMostPieces.
bool copy_pieces(std::int32_t tid, std::span<const Piece> pieces, std::vector<AddrRange>& unreadable);

struct CopyResult {
  std::vector<AddrRange> unreadable;  // sorted; pages of the runs that could not be read
  bool gone = false;                  // the process ended
};

// Copies the runs with several threads. REQUIRES: regions hold them all.
CopyResult copy_runs(std::int32_t tid, std::span<const AddrRange> runs, const HostMemory& host);

// What is known of every mapping, as segments over the host memory.
std::vector<Segment> copied_segments(const CopyPlan& plan, const HostMemory& host,
                                     std::span<const AddrRange> unreadable);

}  // namespace heapcore::live

#include "coreparse/live_copy.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <string_view>
#include <system_error>
#include <thread>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif

namespace heapcore::live {
namespace {

constexpr std::uint64_t kMegabyte = std::uint64_t{1} << 20;
constexpr std::uint64_t kHugePageBytes = 2 * kMegabyte;
constexpr std::uint64_t kWholeLimitBytes = 64 * kMegabyte;  // a private file mapping copied whole is at most this large
constexpr std::uint64_t kWholeTotalBytes = 512 * kMegabyte;  // and all of them together
constexpr std::uint64_t kSearchLimitBytes =
    256 * kMegabyte;  // so is a read-only one that is searched for written pages
constexpr std::uint64_t kMapsLimitBytes = 1024 * kMegabyte;
// Untouched stretches at least this long divide regions, and read as zero-fill instead of taking address space here.
constexpr std::uint64_t kRegionGapBytes = 1024 * kMegabyte;
constexpr std::uint64_t kTightGapBytes = kMegabyte / 16;  // the same where address space is short
constexpr std::uint64_t kGrowthBytes = 64 * kMegabyte;    // kept free at each side of a region
constexpr std::uint64_t kPieceBytes = kMegabyte;          // one iovec
constexpr std::uint64_t kBatchBytes = 8 * kMegabyte;      // one piece of work for one thread
constexpr std::size_t kMaxHugeRuns = 8192;                // each splits a mapping of ours, of which we may have 65,530
constexpr unsigned kMaxThreads = 4;                       // more gain little: memory bandwidth is the limit

bool is_anonymous(const Mapping& mapping) {
  const std::string_view path = mapping.path;
  return path.empty() || path == "[heap]" || path.starts_with("[stack") || path.starts_with("[anon:") ||
         path.starts_with("/anon_hugepage");
}

bool is_device(std::string_view path) {
  return path.starts_with("/dev/") && !path.starts_with("/dev/shm/") && !path.starts_with("/dev/zero");
}

// Finds the pages to copy of one mapping after the other.
class Planner {
 public:
  Planner(CopyPlan& plan, const PageMap& pages) : plan_(plan), pages_(pages) {
    for (const Mapping& mapping : plan.mappings) {
      if (mapping.executable && mapping.is_file()) programs_.insert(mapping.path);
    }
  }

  // False if the process's memory went meanwhile.
  bool run() {
    plan_.pages_known = !pages_.unavailable();
    for (const Mapping& mapping : plan_.mappings) {
      if (gone_) return false;
      CopyRule rule = copy_rule(mapping);
      if (rule == CopyRule::kWhole) {
        if (mapping.size_bytes() > whole_left_bytes_) rule = CopyRule::kWrittenPages;
        whole_left_bytes_ -= rule == CopyRule::kWhole ? mapping.size_bytes() : 0;
      }
      plan_.rules.push_back(rule);
      add(mapping, rule);
    }
    for (const AddrRange& range : plan_.runs) plan_.bytes += range.size_bytes();
    return !gone_;
  }

 private:
  void add(const Mapping& mapping, CopyRule rule) {
    const AddrRange all{mapping.start, mapping.end};
    if (rule == CopyRule::kWhole) append_run(plan_.runs, all);
    if (rule == CopyRule::kHeldPages && !plan_.pages_known) append_run(plan_.runs, all);
    if (rule == CopyRule::kHeldPages && plan_.pages_known) find(all, PageMap::Want::kHeld, plan_.runs);
    if (rule == CopyRule::kWrittenPages) add_written(mapping, all);
  }

  void add_written(const Mapping& mapping, AddrRange all) {
    const bool may_hold_header = mapping.file_offset == 0 && programs_.contains(mapping.path);
    if (may_hold_header) append_run(plan_.runs, {all.start, all.start + kPageBytes});
    if (!mapping.writable && mapping.size_bytes() > kSearchLimitBytes) return;
    if (may_hold_header) all.start += kPageBytes;
    std::vector<AddrRange> written;
    if (all.empty() || !plan_.pages_known) return;
    find(all, PageMap::Want::kAnonymous, written);
    // Written to and read-only: relocated, then protected (RELRO). The rest of it is of a writable segment of the file,
    // so that the file does not stand for it; the kernel's cores have all of it too.
    const bool relocated = !written.empty() && !mapping.writable && !mapping.executable;
    if (relocated && all.size_bytes() <= whole_left_bytes_) {
      whole_left_bytes_ -= all.size_bytes();
      written.assign(1, all);
    }
    for (const AddrRange& run : written) append_run(plan_.runs, run);
  }

  void find(AddrRange range, PageMap::Want want, std::vector<AddrRange>& runs) {
    if (!pages_.find(range, want, runs)) gone_ = true;
  }

  CopyPlan& plan_;
  const PageMap& pages_;
  std::set<std::string_view> programs_;  // paths that have an executable mapping
  std::uint64_t whole_left_bytes_ = kWholeTotalBytes;
  bool gone_ = false;
};

// Groups runs that less than `gap` divides and that `blocked` does not hold apart.
template <typename Blocked>
std::vector<AddrRange> group_runs(std::span<const AddrRange> runs, std::uint64_t gap, Blocked&& blocked) {
  std::vector<AddrRange> groups;
  for (const AddrRange& run : runs) {
    if (!groups.empty() && run.start - groups.back().end < gap && !blocked(groups.back().end, run.start)) {
      groups.back().end = run.end;
    } else {
      groups.push_back(run);
    }
  }
  return groups;
}

// Calls work(i) for each i below `count`, with several threads. Throws std::bad_alloc, in this one, if any of them did.
template <typename Work>
void in_parallel(std::size_t count, unsigned thread_count, Work&& work) {
  std::atomic<std::size_t> next{0};
  std::atomic<bool> no_memory{false};
  const auto loop = [&] {
    try {
      for (std::size_t i = next++; i < count && !no_memory; i = next++) work(i);
    } catch (const std::bad_alloc&) {
      no_memory = true;
    }
  };
  std::vector<std::thread> helpers;
  try {
    while (helpers.size() + 1 < thread_count) helpers.emplace_back(loop);
  } catch (const std::system_error&) {
    // No more threads to be had; those that there are do the work.
  }
  loop();
  for (std::thread& helper : helpers) helper.join();
  if (no_memory) throw std::bad_alloc();
}

unsigned threads_for(std::uint64_t bytes) {
  if (bytes < 4 * kBatchBytes) return 1;
  return std::clamp(std::thread::hardware_concurrency(), 1u, kMaxThreads);
}

// Runs cut into pieces, and pieces into batches of similar size.
struct Pieces {
  std::vector<AddrRange> pieces;
  std::vector<std::size_t> batch_starts;  // indexes into pieces; one more than there are batches
  std::uint64_t bytes = 0;

  explicit Pieces(std::span<const AddrRange> runs) {
    std::uint64_t batch_bytes = kBatchBytes;
    for (AddrRange run : runs) {
      while (!run.empty()) {
        const AddrRange piece{run.start, std::min(run.end, run.start + kPieceBytes)};
        if (batch_bytes >= kBatchBytes || pieces.size() - batch_starts.back() >= kMostPieces) {
          batch_starts.push_back(pieces.size());
          batch_bytes = 0;
        }
        pieces.push_back(piece);
        batch_bytes += piece.size_bytes();
        bytes += piece.size_bytes();
        run.start = piece.end;
      }
    }
    batch_starts.push_back(pieces.size());
  }

  std::size_t batch_count() const { return batch_starts.size() - 1; }
  std::span<const AddrRange> batch(std::size_t i) const {
    return std::span(pieces).subspan(batch_starts[i], batch_starts[i + 1] - batch_starts[i]);
  }
};

}  // namespace

CopyRule copy_rule(const Mapping& mapping) {
  const bool small = mapping.size_bytes() <= kWholeLimitBytes;
  if (!mapping.readable || mapping.shared || is_device(mapping.path)) return CopyRule::kNone;
  if (is_anonymous(mapping)) return mapping.writable || small ? CopyRule::kHeldPages : CopyRule::kNone;
  if (mapping.is_file()) return mapping.writable && small ? CopyRule::kWhole : CopyRule::kWrittenPages;
  return mapping.path == "[vdso]" && small ? CopyRule::kWhole : CopyRule::kNone;
}

CopyPlan plan_copy(const ProcDir& proc, PageMap::Method method) {
  CopyPlan plan;
  plan.tid = proc.living_thread();
  const std::optional<std::string> text = proc.read(fmt::format("task/{}/maps", plan.tid), kMapsLimitBytes);
  if (text) plan.mappings = parse_maps(*text);
  const PageMap pages(proc, plan.tid, method);
  if (!Planner(plan, pages).run()) return CopyPlan{};
  return plan;
}

Status HostMemory::reserve(std::span<const AddrRange> runs) {
  const auto never = [](Addr, Addr) { return false; };
  const auto attempt = [&](std::uint64_t gap, std::uint64_t growth) {
    std::vector<Region> regions;
    const std::vector<AddrRange> groups = group_runs(runs, gap, never);
    for (std::size_t i = 0; i < groups.size(); ++i) {
      // Half of what lies between two groups is room for each, up to the growth wanted.
      const Addr before = i == 0 ? 0 : groups[i - 1].end;
      const Addr behind = i + 1 == groups.size() ? ~Addr{0} : groups[i + 1].start;
      const std::uint64_t down = align_down(std::min(growth, (groups[i].start - before) / 2), kPageBytes);
      const std::uint64_t up = align_down(std::min(growth, (behind - groups[i].end) / 2), kPageBytes);
      regions.push_back({groups[i].start - down, groups[i].end + up, nullptr});
    }
    return add_regions(std::move(regions));
  };
  const Status roomy = attempt(kRegionGapBytes, kGrowthBytes);
  return roomy ? roomy : attempt(kTightGapBytes, 0);
}

Status HostMemory::reserve_missing(std::span<const AddrRange> runs) {
  const auto region_between = [&](Addr start, Addr end) {
    const Region* region = region_from(start);
    return region != nullptr && region->start < end;
  };
  std::vector<Region> regions;
  for (const AddrRange& group : group_runs(missing(runs), kRegionGapBytes, region_between)) {
    regions.push_back({group.start, group.end, nullptr});
  }
  return add_regions(std::move(regions));
}

Status HostMemory::add_regions(std::vector<Region> regions) {
  std::uint64_t total = 0;
  for (const Region& region : regions) total += region.end - region.start;
  if (total == 0) return std::monostate{};
  Result<Image> image = Image::reserve(total);
  if (!image) return image.error();
  std::byte* at = image->writable().data();
  // Elsewhere than in dense memory, huge pages would cost up to 512 times what the target holds.
  ::madvise(at, total, MADV_NOHUGEPAGE);
  for (Region& region : regions) {
    region.bytes = at;
    at += region.end - region.start;
  }
  images_.push_back(std::move(*image));
  const auto middle = regions_.insert(regions_.end(), regions.begin(), regions.end());
  std::inplace_merge(regions_.begin(), middle, regions_.end(),
                     [](const Region& a, const Region& b) { return a.start < b.start; });
  return std::monostate{};
}

std::vector<AddrRange> HostMemory::missing(std::span<const AddrRange> runs) const {
  std::vector<AddrRange> result;
  for (AddrRange run : runs) {
    while (!run.empty()) {
      const Region* region = region_from(run.start);
      const Addr known_from = region == nullptr ? run.end : std::clamp(region->start, run.start, run.end);
      if (known_from > run.start) append_run(result, {run.start, known_from});
      run.start = region == nullptr ? run.end : std::clamp(region->end, known_from, run.end);
    }
  }
  return result;
}

std::uint64_t HostMemory::missing_bytes(std::span<const AddrRange> runs) const {
  std::uint64_t bytes = 0;
  for (const AddrRange& range : missing(runs)) bytes += range.size_bytes();
  return bytes;
}

const HostMemory::Region* HostMemory::region_from(Addr address) const {
  const auto it = std::upper_bound(regions_.begin(), regions_.end(), address,
                                   [](Addr a, const Region& region) { return a < region.end; });
  return it == regions_.end() ? nullptr : &*it;
}

std::byte* HostMemory::host(Addr address) const {
  const Region* region = region_from(address);
  return region->bytes + (address - region->start);
}

Status HostMemory::fault_in(std::span<const AddrRange> runs, Progress& progress) {
  const Pieces work(runs);
  // Runs that fill a huge page's place here get huge pages, which are far quicker to take and to copy into.
  std::size_t huge_runs = 0;
  for (const AddrRange& run : runs) {
    const auto start = reinterpret_cast<std::uintptr_t>(host(run.start));
    const std::uintptr_t from = align_up(start, kHugePageBytes);
    const std::uintptr_t to = align_down(start + run.size_bytes(), kHugePageBytes);
    if (from >= to) continue;
    ::madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);
    if (++huge_runs == kMaxHugeRuns) break;
  }
  std::atomic<int> failed{0};
  in_parallel(work.batch_count(), threads_for(work.bytes), [&](std::size_t i) {
    for (const AddrRange& piece : work.batch(i)) {
      std::byte* bytes = host(piece.start);
      if (::madvise(bytes, piece.size_bytes(), MADV_POPULATE_WRITE) != 0) {
        if (errno != EINVAL) {
          failed = errno;
          return;
        }
        for (std::uint64_t at = 0; at < piece.size_bytes(); at += kPageBytes) {
          *const_cast<volatile std::byte*>(bytes + at) = std::byte{0};
        }
      }
      progress.advance(piece.size_bytes());
    }
  });
  if (failed == 0) return std::monostate{};
  return Error{ErrorCode::kNoMemory,
               fmt::format("no memory for a copy of {} bytes: {}", work.bytes, errno_text(failed.load())),
               "free memory, raise --max-memory if it was given, or take a core (heapcore capture) and analyse that"};
}

bool copy_pieces(std::int32_t tid, std::span<const Piece> pieces, std::vector<AddrRange>& unreadable) {
  std::array<iovec, kMostPieces> remote;
  std::array<iovec, kMostPieces> local;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const std::size_t n = pieces[i].from.size_bytes();
    remote[i] = {reinterpret_cast<void*>(pieces[i].from.start), n};
    local[i] = {pieces[i].to, n};
  }
  // Takes n bytes off the front of both lists.
  std::size_t at = 0;
  const auto skip = [&](std::size_t n) {
    while (n > 0) {
      const std::size_t part = std::min(n, remote[at].iov_len);
      remote[at] = {static_cast<std::byte*>(remote[at].iov_base) + part, remote[at].iov_len - part};
      local[at] = {static_cast<std::byte*>(local[at].iov_base) + part, local[at].iov_len - part};
      n -= part;
      if (remote[at].iov_len == 0) ++at;
    }
  };
  while (at < pieces.size()) {
    const std::size_t left = pieces.size() - at;
    const ssize_t n = ::process_vm_readv(tid, &local[at], left, &remote[at], left, 0);
    if (n > 0) {
      skip(static_cast<std::size_t>(n));
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == ESRCH) return false;
    // The first page left cannot be read. What was read of it, if anything, does not count as known.
    const auto from = reinterpret_cast<std::uintptr_t>(remote[at].iov_base);
    const Addr bad = align_down(from, kPageBytes);
    append_run(unreadable, {bad, bad + kPageBytes});
    std::memset(static_cast<std::byte*>(local[at].iov_base) - (from - bad), 0, kPageBytes);
    skip(bad + kPageBytes - from);
  }
  return true;
}

CopyResult copy_runs(std::int32_t tid, std::span<const AddrRange> runs, const HostMemory& host) {
  const Pieces work(runs);
  CopyResult result;
  std::mutex mutex;
  std::atomic<bool> gone{false};
  in_parallel(work.batch_count(), threads_for(work.bytes), [&](std::size_t i) {
    if (gone) return;
    std::array<Piece, kMostPieces> pieces;
    std::size_t count = 0;
    for (const AddrRange& piece : work.batch(i)) pieces[count++] = {piece, host.host(piece.start)};
    std::vector<AddrRange> unreadable;
    if (!copy_pieces(tid, std::span(pieces).first(count), unreadable)) gone = true;
    if (unreadable.empty()) return;
    const std::lock_guard lock(mutex);
    result.unreadable.insert(result.unreadable.end(), unreadable.begin(), unreadable.end());
  });
  result.gone = gone;
  std::sort(result.unreadable.begin(), result.unreadable.end(),
            [](const AddrRange& a, const AddrRange& b) { return a.start < b.start; });
  return result;
}

std::vector<Segment> copied_segments(const CopyPlan& plan, const HostMemory& host,
                                     std::span<const AddrRange> unreadable) {
  std::vector<Segment> segments;
  std::size_t next_bad = 0;
  std::size_t next_run = 0;
  // Known memory in [start, end), all in one region or in none.
  const auto add_known = [&](Addr start, Addr end, bool in_region) {
    while (start < end) {
      while (next_bad < unreadable.size() && unreadable[next_bad].end <= start) ++next_bad;
      const bool any_bad = next_bad < unreadable.size();
      const Addr good_end = any_bad ? std::clamp(unreadable[next_bad].start, start, end) : end;
      if (start < good_end && in_region) {
        segments.push_back({start, good_end, host.host(start), ByteState::kPresent, false});
      } else if (start < good_end) {
        segments.push_back({start, good_end, nullptr, ByteState::kZeroFill, false});
      }
      const Addr bad_end = any_bad ? std::clamp(unreadable[next_bad].end, good_end, end) : end;
      if (good_end < bad_end) segments.push_back({good_end, bad_end, nullptr, ByteState::kNotDumped, false});
      start = bad_end;
    }
  };
  const auto add_by_region = [&](Addr start, Addr end) {
    while (start < end) {
      const HostMemory::Region* region = host.region_from(start);
      const Addr region_start = region == nullptr ? end : std::clamp(region->start, start, end);
      const Addr region_end = region == nullptr ? end : std::clamp(region->end, region_start, end);
      add_known(start, region_start, false);
      add_known(region_start, region_end, true);
      start = region_end;
    }
  };
  for (std::size_t i = 0; i < plan.mappings.size(); ++i) {
    const Mapping& mapping = plan.mappings[i];
    if (plan.rules[i] == CopyRule::kHeldPages || plan.rules[i] == CopyRule::kWhole) {
      add_by_region(mapping.start, mapping.end);
      continue;
    }
    Addr at = mapping.start;
    while (next_run < plan.runs.size() && plan.runs[next_run].end <= at) ++next_run;
    for (std::size_t r = next_run; r < plan.runs.size() && plan.runs[r].start < mapping.end; ++r) {
      const Addr start = std::max(plan.runs[r].start, at);
      const Addr end = std::min(plan.runs[r].end, mapping.end);
      if (at < start) segments.push_back({at, start, nullptr, ByteState::kNotDumped, false});
      add_by_region(start, end);
      at = end;
    }
    if (at < mapping.end) segments.push_back({at, mapping.end, nullptr, ByteState::kNotDumped, false});
  }
  return segments;
}

}  // namespace heapcore::live

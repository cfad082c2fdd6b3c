// capture_process(): stop, read into blocks, resume, and meanwhile write the blocks out in another thread.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>

#include "coreparse/capture.h"
#include "coreparse/core_head.h"
#include "coreparse/core_sink.h"
#include "coreparse/live_copy.h"
#include "coreparse/live_proc.h"
#include "coreparse/live_standstill.h"
#include "coreparse/live_target.h"
#include "coreparse/stored_files.h"

namespace heapcore {
namespace {

using live::CopyPlan;
using live::CopyRule;
using live::kPageBytes;
using live::ProcDir;
using live::Tracer;

constexpr std::uint64_t kMegabyte = std::uint64_t{1} << 20;
constexpr std::uint64_t kBlockBytes = kMegabyte;
constexpr std::uint64_t kLeastBlocks = 4;
// Untouched stretches up to this size are in the file as zeros, which are holes or compress, so that what begins before
// one is in one piece; of a longer one only the ends are, and it divides segments. As in a snapshot (live_copy.cc).
constexpr std::uint64_t kZeroGapBytes = 1024 * kMegabyte;
constexpr std::uint64_t kZeroEndBytes = 64 * kMegabyte;

// What comes next in the file: zeros, then bytes.
struct Block {
  std::uint64_t zeros = 0;
  std::uint64_t used = 0;
  std::byte* bytes = nullptr;
};

// A ring of blocks that one thread fills and another empties.
class BlockQueue {
 public:
  explicit BlockQueue(std::span<std::byte> memory) : blocks_(memory.size() / kBlockBytes) {
    for (std::size_t i = 0; i < blocks_.size(); ++i) blocks_[i].bytes = memory.data() + i * kBlockBytes;
  }

  // An empty block; null if nobody will take it.
  Block* to_fill() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return filled_ - emptied_ < blocks_.size() || abandoned_; });
    if (abandoned_) return nullptr;
    Block& block = blocks_[filled_ % blocks_.size()];
    block.zeros = block.used = 0;
    return &block;
  }
  void put() {
    const std::lock_guard lock(mutex_);
    ++filled_;
    changed_.notify_all();
  }
  // No more blocks will come.
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

  // The next block; null after the last.
  const Block* to_empty() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return filled_ != emptied_ || closed_; });
    return filled_ == emptied_ ? nullptr : &blocks_[emptied_ % blocks_.size()];
  }
  void give_back() {
    const std::lock_guard lock(mutex_);
    ++emptied_;
    changed_.notify_all();
  }
  // No more blocks will be taken.
  void abandon() {
    const std::lock_guard lock(mutex_);
    abandoned_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Block> blocks_;
  std::uint64_t filled_ = 0;
  std::uint64_t emptied_ = 0;
  bool closed_ = false;
  bool abandoned_ = false;
};

// Puts bytes, zeros and the target's memory into blocks, in the file's order.
class Filler {
 public:
  explicit Filler(BlockQueue& queue) : queue_(queue) {}

  bool bytes(std::string_view text) {
    while (!text.empty()) {
      const std::size_t n = std::min<std::size_t>(text.size(), room());
      if (n == 0 && !next()) return false;
      if (n == 0) continue;
      std::memcpy(block_->bytes + block_->used, text.data(), n);
      block_->used += n;
      text.remove_prefix(n);
    }
    return true;
  }

  bool zeros(std::uint64_t n) {
    if (n == 0) return true;
    // A few between pages are stored with them; where there are more, a block of their own says so.
    if (n <= kBlockBytes / 16 && n <= room()) {
      std::memset(block_->bytes + block_->used, 0, n);
      block_->used += n;
      return true;
    }
    if (!next()) return false;
    block_->zeros = n;
    return true;
  }

  // False as well if the process has gone, unless it may: then gone().
  bool memory(std::int32_t tid, AddrRange range) {
    tid_ = tid;
    while (!range.empty()) {
      const std::uint64_t n = std::min(range.size_bytes(), align_down(room(), kPageBytes));
      if (n == 0 || count_ == pieces_.size()) {
        if (!next()) return false;
        continue;
      }
      pieces_[count_++] = {{range.start, range.start + n}, block_->bytes + block_->used};
      block_->used += n;
      range.start += n;
    }
    return true;
  }

  // Hands over what is not yet handed over.
  bool flush() {
    if (block_ == nullptr) return true;
    const std::span<const live::Piece> pieces = std::span(pieces_).first(count_);
    gone_ = gone_ || !live::copy_pieces(tid_, pieces, unreadable_);
    count_ = 0;
    block_ = nullptr;
    if (gone_ && !may_go_) return false;
    for (const live::Piece& piece : pieces) {
      if (!gone_) break;
      std::memset(piece.to, 0, piece.from.size_bytes());
      unreadable_.push_back(piece.from);
    }
    queue_.put();
    return true;
  }

  bool gone() const { return gone_; }
  // From now on it may end: what is then missing is unreadable.
  void let_it_go() { may_go_ = true; }
  std::vector<AddrRange>& unreadable() { return unreadable_; }

 private:
  std::uint64_t room() const { return block_ == nullptr ? 0 : kBlockBytes - block_->used; }

  bool next() {
    if (!flush()) return false;
    block_ = queue_.to_fill();
    return block_ != nullptr;
  }

  BlockQueue& queue_;
  Block* block_ = nullptr;
  std::array<live::Piece, live::kMostPieces> pieces_;
  std::size_t count_ = 0;
  std::int32_t tid_ = 0;
  std::vector<AddrRange> unreadable_;
  bool gone_ = false;
  bool may_go_ = false;
};

// What of the plan becomes which segment of the core.
class Parts {
 public:
  explicit Parts(const CopyPlan& plan) : stored_files_(files_to_store(plan.mappings)) {
    auto run = plan.runs.begin();
    for (std::size_t i = 0; i < plan.mappings.size(); ++i) {
      mapping_ = &plan.mappings[i];
      rest_is_zero_ = plan.rules[i] == CopyRule::kHeldPages || plan.rules[i] == CopyRule::kWhole;
      rest_is_late_ = stored_files_[i];
      stored_ = {mapping_->start, mapping_->start};
      for (; run != plan.runs.end() && run->start < mapping_->end; ++run) {
        skip_to(std::max(run->start, mapping_->start));
        stored_.end = std::min(run->end, mapping_->end);
        if (run->end > mapping_->end) break;  // the next mapping has the rest of it
      }
      skip_to(mapping_->end);
      add(stored_, PartState::kStored, false);
    }
  }

  std::vector<CorePart> take() { return std::move(parts_); }

 private:
  void add(AddrRange range, PartState state, bool late) {
    if (!range.empty()) parts_.push_back({range, state, late, segment_flags(*mapping_)});
  }

  // There is nothing to be read from the end of stored_ to `next`, where it goes on.
  void skip_to(Addr next) {
    AddrRange gap{stored_.end, next};
    if (gap.empty()) return;
    if (rest_is_zero_ && gap.size_bytes() < kZeroGapBytes) {
      stored_.end = next;
      return;
    }
    if (rest_is_zero_) gap = {gap.start + kZeroEndBytes, gap.end - kZeroEndBytes};
    add({stored_.start, gap.start}, PartState::kStored, false);
    const PartState rest = rest_is_zero_ ? PartState::kZero : PartState::kAbsent;
    add(gap, rest_is_late_ ? PartState::kStored : rest, rest_is_late_);
    stored_ = {gap.end, next};
  }

  std::vector<bool> stored_files_;
  std::vector<CorePart> parts_;
  const Mapping* mapping_ = nullptr;  // at hand
  bool rest_is_zero_ = false;
  bool rest_is_late_ = false;
  AddrRange stored_;
};

class Capturer {
 public:
  Capturer(const ProcDir& proc, const CaptureOptions& options, CoreSink& sink, Progress& progress)
      : proc_(proc), options_(options), sink_(sink), progress_(progress) {}

  Result<CaptureSummary> run() {
    const std::uint64_t wanted = std::min(options_.buffer_bytes, live::plan_copy(proc_).bytes + kBlockBytes);
    Result<Image> memory = Image::reserve(std::max(kLeastBlocks, wanted / kBlockBytes) * kBlockBytes);
    if (!memory) return memory.error();
    // Taken now, so that reading need not.
    std::memset(memory->writable().data(), 0, memory->writable().size());
    BlockQueue queue(memory->writable());
    Status read = std::monostate{};
    Status written = std::monostate{};
    progress_.begin("capture", 0);
    const Status ran = live::in_own_thread(
        [&] {
          const Closer closer{queue};
          read = read_all(queue);
        },
        [&] { written = write_all(queue); });
    progress_.end();
    for (const Status& status : {ran, written, read}) {
      if (!status) return status.error();
    }
    const Status finished = sink_.finish();
    if (!finished) return finished.error();
    summary_.file_bytes = sink_.stored_bytes();
    return std::move(summary_);
  }

 private:
  struct Closer {
    BlockQueue& queue;
    ~Closer() { queue.close(); }
  };
  struct Abandoner {
    BlockQueue& queue;
    ~Abandoner() { queue.abandon(); }
  };

  Status write_all(BlockQueue& queue) {
    const Abandoner abandoner{queue};
    while (const Block* block = queue.to_empty()) {
      Status status = block->zeros == 0 ? std::monostate{} : sink_.zeros(block->zeros);
      if (status) status = sink_.write({block->bytes, block->used});
      if (!status) return status;
      progress_.advance(block->used);
      queue.give_back();
    }
    return std::monostate{};
  }

  // Whether the process stands still is known to this function alone.
  Status read_all(BlockQueue& queue) {
    Filler filler(queue);
    CopyPlan plan;
    std::vector<CorePart> parts;
    {
      Tracer tracer(proc_);
      live::Standstill standstill;
      Status status = live::begin_standstill(proc_, options_.stop, tracer, standstill);
      if (!status) return status;
      plan = live::plan_copy(proc_);
      if (!plan.readable()) return live::gone_error(proc_.pid());
      live::read_identity(proc_, plan.tid, standstill);
      parts = Parts(plan).take();
      summary_.threads = standstill.threads.size();
      Snapshot subject;
      live::describe_process(standstill, proc_.pid(), subject);
      summary_.findings.merge(subject.findings);
      summary_.info = subject.info;
      subject.mappings = plan.mappings;
      const CoreHead head = make_core_head(subject, parts, live::read_float_registers(standstill));
      if (!filler.bytes(head.bytes) || !read_early(filler, plan, parts) || !filler.flush()) return ended(filler);
      live::end_standstill(tracer, standstill);
      summary_.info.pause_seconds = standstill.pause_seconds;
    }
    if (!read_late(filler, plan, parts)) return ended(filler);
    note_unreadable(filler, plan);
    summary_.memory_bytes = plan.bytes;
    for (const CorePart& part : parts) summary_.memory_bytes += part.late ? part.range.size_bytes() : 0;
    if (!filler.bytes(make_core_tail(filler.unreadable())) || !filler.flush()) return ended(filler);
    return std::monostate{};
  }

  Status ended(const Filler& filler) const {
    if (filler.gone()) return live::gone_error(proc_.pid());
    return std::monostate{};  // the writer knows why
  }

  // What the process may change as it runs.
  static bool read_early(Filler& filler, const CopyPlan& plan, const std::vector<CorePart>& parts) {
    auto run = plan.runs.begin();
    for (const CorePart& part : parts) {
      if (part.state != PartState::kStored || part.late) continue;
      Addr at = part.range.start;
      while (run != plan.runs.end() && run->end <= at) ++run;
      for (auto next = run; next != plan.runs.end() && next->start < part.range.end; ++next) {
        const Addr start = std::max(next->start, at);
        const Addr end = std::min(next->end, part.range.end);
        if (!filler.zeros(start - at) || !filler.memory(plan.tid, {start, end})) return false;
        at = end;
      }
      if (!filler.zeros(part.range.end - at)) return false;
    }
    return true;
  }

  // Read-only parts of files, when the process runs again: they do not change, unless they are unmapped.
  bool read_late(Filler& filler, const CopyPlan& plan, const std::vector<CorePart>& parts) {
    filler.let_it_go();
    const std::int32_t living = proc_.living_thread();
    for (const CorePart& part : parts) {
      if (part.late && !filler.memory(living == 0 ? plan.tid : living, part.range)) return false;
    }
    if (!filler.flush()) return false;
    leave_out_changed(filler, plan, parts);
    return true;
  }

  void leave_out_changed(Filler& filler, const CopyPlan& plan, const std::vector<CorePart>& parts) const {
    const std::optional<std::string> text =
        proc_.read(fmt::format("task/{}/maps", proc_.living_thread()), kMapsLimitBytes);
    const std::vector<Mapping> now = live::parse_maps(text.value_or(""));
    const auto still_there = [&](const CorePart& part) {
      const auto holds = [&](const std::vector<Mapping>& mappings) {
        const auto it = std::upper_bound(mappings.begin(), mappings.end(), part.range.start,
                                         [](Addr a, const Mapping& mapping) { return a < mapping.end; });
        return it == mappings.end() ? nullptr : &*it;
      };
      const Mapping* before = holds(plan.mappings);
      const Mapping* after = holds(now);
      return after != nullptr && after->start == before->start && after->end == before->end &&
             after->path == before->path && after->file_offset == before->file_offset;
    };
    for (const CorePart& part : parts) {
      if (part.late && !still_there(part)) filler.unreadable().push_back(part.range);
    }
  }

  // Makes the list sorted and disjoint, and says what of it is missing from the core.
  void note_unreadable(Filler& filler, const CopyPlan& plan) {
    std::vector<AddrRange>& ranges = filler.unreadable();
    std::sort(ranges.begin(), ranges.end(), [](const AddrRange& a, const AddrRange& b) { return a.start < b.start; });
    std::vector<AddrRange> joined;
    std::vector<AddrRange> lost;
    const live::PageMap pages(proc_, plan.tid);
    for (const AddrRange& range : ranges) {
      if (!joined.empty() && range.start <= joined.back().end) {
        joined.back().end = std::max(joined.back().end, range.end);
      } else {
        joined.push_back(range);
      }
    }
    ranges = std::move(joined);
    for (const AddrRange& range : ranges) pages.find(range, live::PageMap::Want::kInMemory, lost);
    for (const AddrRange& range : lost) {
      summary_.findings.add({"live-memory-unreadable", Room::kCoreparse, range.start,
                             fmt::format("{} bytes in memory could not be read", range.size_bytes())});
    }
  }

  static constexpr std::uint64_t kMapsLimitBytes = 1024 * kMegabyte;

  const ProcDir& proc_;
  const CaptureOptions& options_;
  CoreSink& sink_;
  Progress& progress_;
  CaptureSummary summary_;
};

}  // namespace

Result<CaptureSummary> capture_process(std::int32_t pid, int descriptor, const CaptureOptions& options,
                                       Progress& progress) {
  const Result<ProcDir> proc = live::find_target(pid, options.stop);
  if (!proc) return proc.error();
  const Result<std::unique_ptr<CoreSink>> sink =
      make_core_sink(descriptor, {options.name, options.compress, options.most_file_bytes});
  if (!sink) return sink.error();
  return Capturer(*proc, options, **sink, progress).run();
}

}  // namespace heapcore

#include "analysis/census.h"

#include <fmt/format.h>

#include <algorithm>

#include "analysis/census_sweep.h"
#include "analysis/closure.h"
#include "analysis/type_blocks.h"
#include "pyobj/gc_lists.h"
#include "pyobj/refcounts.h"

namespace heapcore {
namespace {

class CensusTaker {
 public:
  CensusTaker(const Process& process, Progress& progress, Findings& findings, bool list_blocks)
      : process_(process),
        malloc_swept_(process.heap() != nullptr || process.runtime()->mimalloc),
        list_blocks_(list_blocks || !malloc_swept_),
        runtime_(*process.runtime()),
        mapped_bytes_(process.snapshot.mapped_bytes()),
        progress_(progress),
        findings_(findings),
        types_(std::make_unique<TypeTable>(process.snapshot, runtime_)),
        sweep_(process, *types_, list_blocks_, findings) {}

  Census run() {
    sweep_.run(progress_);
    Census census;
    GcRingCheck rings;
    for (Tally& tally : sweep_.tallies()) {
      merge_counts(census, tally);
      rings.merge(tally.rings);
      merge(census.pools, tally.pools);
      merge(census.chunks, tally.chunks);
      merge(census.mmapped, tally.mmapped);
      findings_.merge(tally.findings);
      blocks_.push_back(std::move(tally.blocks));
      debug_hooks_ = debug_hooks_ || tally.objects.saw_debug_hooks();
      lacked_array_items_ = lacked_array_items_ || tally.objects.lacked_array_items();
    }
    if (debug_hooks_) {
      findings_.note(
          "debug-hooks", Room::kAnalysis, 0,
          "the allocator's debug hooks are on (PYTHONMALLOC=debug): their 24 to 32 bytes a block count as in use");
    }
    census.by_type.resize(types_->size());
    settle_lists(census, rings);
    if (!malloc_swept_) follow_references(census);
    for (TypeTotals& totals : census.by_type) drop_wrapped(totals);
    for (TypeTotals& totals : census.by_size) drop_wrapped(totals);
    for (const TypeTotals& totals : census.by_type) {
      census.total += totals.all;
      census.tracked += totals.tracked;
    }
    report_unnamed();
    report_unmeasured();
    report_missed_obmalloc(census);
    census.python_allocator = python_allocator(census);
    if (list_blocks_) census.blocks_by_type = sum_blocks(blocks_, sweep_.memory(), types_->size());
    census.types = std::move(types_);
    return census;
  }

  // Once, after run().
  std::vector<BlockColumns> take_blocks() { return std::move(blocks_); }

 private:
  static void merge_counts(Census& census, const Tally& tally) {
    if (census.by_type.size() < tally.by_type.size()) census.by_type.resize(tally.by_type.size());
    for (std::size_t i = 0; i < tally.by_type.size(); ++i) census.by_type[i] += tally.by_type[i];
    for (std::size_t i = 0; i < kSizeClasses; ++i) census.by_size[i] += tally.by_size[i];
  }

  // A frozen object that the sweep did not count, its block being said to be free, takes out what was never put in.
  static void drop_wrapped(TypeTotals& totals) {
    if (totals.tracked.count > totals.all.count || totals.tracked.bytes > totals.all.bytes) totals.tracked = {};
  }

  static void merge(BlockContents& into, const BlockContents& from) {
    into.objects += from.objects;
    into.other += from.other;
  }

  // Are the rings whole? If not, walks them for objects that the sweep did not reach. Frozen objects are taken out of
  // the tracked ones in any case.
  void settle_lists(Census& census, GcRingCheck rings) {
    if (runtime_.traits.gc_head == GcHead::kNone) {
      census.rings_whole = true;  // there are none
      return;
    }
    Tally tally(process_, *types_, list_blocks_);
    Reader& reader = tally.objects.reader();
    const PyLayout& layout = *runtime_.traits.layout;
    const std::vector<GcListHead> heads = gc_list_heads(runtime_);
    const std::uint64_t met = rings.count();
    for (const GcListHead& head : heads) {
      Addr next = 0;
      if (reader.try_load(head.address + layout.PyGC_Head._gc_next.offset, next))
        rings.add(head.address, align_down(next, 4));
    }
    census.rings_whole = !heads.empty() && rings.whole();
    const std::uint64_t bound = mapped_bytes_ / runtime_.traits.gc_head_bytes();
    const bool in_motion = std::any_of(runtime_.interpreters.begin(), runtime_.interpreters.end(),
                                       [](const Interpreter& interpreter) { return interpreter.gc_collecting; });
    if (in_motion && !census.rings_whole) {
      findings_.note(
          "gc-collecting", Room::kAnalysis, 0,
          "the snapshot was taken inside a collection: the collector's lists are in motion, and the counts could not "
          "be compared with them");
    }
    for (const GcListHead& head : heads) {
      // Rings in motion lead over the collector's stack and cannot be followed.
      if ((census.rings_whole || in_motion) && !head.permanent) continue;
      walk_gc_list(reader, runtime_.traits, head.address, bound, findings_,
                   [&](Addr node) { settle_node(node, head.permanent, tally, census); });
    }
    merge_counts(census, tally);
    findings_.merge(tally.findings);
    blocks_.push_back(std::move(tally.blocks));
    if (listed_in_swept_memory_ > met) {
      findings_.add(
          {"gc-objects-unrecognised", Room::kAnalysis, 0,
           fmt::format("the collector's lists name {} objects in memory that was swept, of which only {} were "
                       "recognised; the counts are too low",
                       listed_in_swept_memory_, met)});
    }
    if (!census.rings_whole && !in_motion && met > listed_in_swept_memory_) {
      findings_.add(
          {"gc-objects-unlisted", Room::kAnalysis, 0,
           fmt::format("the sweep recognised {} tracked objects, of which the collector's lists name {}; the others "
                       "may be remains of freed ones, and the counts too high",
                       met, listed_in_swept_memory_)});
    }
    if (census.objects_elsewhere != 0) {
      findings_.note(
          "gc-objects-elsewhere", Room::kAnalysis, 0,
          fmt::format("{} objects on the collector's lists lie in neither a sound pool of obmalloc nor malloc's "
                      "memory; they are counted",
                      census.objects_elsewhere));
    }
  }

  void settle_node(Addr node, bool permanent, Tally& tally, Census& census) {
    ObjectView object;
    if (!tally.objects.at(node + runtime_.traits.gc_head_bytes(), object) || object.type.header_bytes == 0 ||
        !is_referenced(runtime_.traits, tally.objects.reader().span_to_end(object.address))) {
      findings_.add(
          {"gc-object-damaged", Room::kAnalysis, node, "what a list of the collector names here is no object"});
      return;
    }
    const std::span<const std::byte> bytes = tally.objects.reader().span_to_end(object.address);
    const std::uint64_t size = tally.checked_size(object, bytes.first(std::min<std::size_t>(bytes.size(), 4096)));
    if (sweep_.covers(node)) {
      ++listed_in_swept_memory_;
    } else {
      tally.count(object, size);
      if (tally.lists_blocks) tally.blocks.add_object(object.address, object.type.id, object.tracked, size);
      ++census.objects_elsewhere;
    }
    if (permanent) tally.uncount_tracked(object, size);
  }

  // jemalloc and its like are named, not walked: what lies in their memory is known by the collector's lists and by
  // what refers to it.
  void follow_references(Census& census) {
    const BlockTable known(blocks_);
    Closure closure(process_, *types_, known, Closure::Follows::kCounted);
    for (BlockId id = 0; id < known.objects(); ++id) closure.start_from(known.address(id));
    Tally tally(process_, *types_, list_blocks_);
    closure.run([&](const ObjectView& object, std::uint64_t bytes) {
      if (known.find_object(object.address) != kNoBlock || sweep_.covers(object.address) ||
          process_.snapshot.is_static(object.address))
        return;
      tally.count(object, bytes);
      tally.blocks.add_object(object.address, object.type.id, object.tracked, bytes);
    });
    merge_counts(census, tally);
    findings_.merge(closure.findings());
    blocks_.push_back(std::move(tally.blocks));
    findings_.add(
        {"allocator-not-swept", Room::kAnalysis, 0,
         fmt::format("there is no glibc malloc to sweep ({}): of the objects outside obmalloc's pools, such as long "
                     "strings, only those are counted that the collector tracks or another object refers to",
                     process_.malloc.why_not)});
  }

  std::string python_allocator(const Census& census) const {
    const char* suffix = debug_hooks_ ? "_debug" : "";
    if (runtime_.mimalloc) return fmt::format("mimalloc{}", suffix);
    if (runtime_.arenas) return fmt::format("pymalloc{}", suffix);
    return census.chunks.objects.count != 0 && census.objects_elsewhere == 0 ? fmt::format("malloc{}", suffix) : "";
  }

  // Without obmalloc all objects are malloc's (PYTHONMALLOC=malloc). If some that are tracked are not, obmalloc is in
  // use after all.
  void report_missed_obmalloc(const Census& census) {
    if (runtime_.arenas || runtime_.mimalloc || census.objects_elsewhere == 0) return;
    findings_.add(
        {"obmalloc-missed", Room::kAnalysis, 0,
         "CPython's small-object allocator was not found, yet not all objects are malloc's: those in its pools that "
         "the collector does not track are not counted"});
  }

  void report_unmeasured() {
    if (!lacked_array_items_) return;
    findings_.add({"array-items-missing", Room::kAnalysis, 0,
                   "how large the items of array.array are lies in a part of a file that the core does not hold and "
                   "that was not found here; arrays are counted without their items"});
  }

  void report_unnamed() {
    const std::size_t unnamed = types_->unnamed();
    if (unnamed == 0) return;
    findings_.add(
        {"type-names-missing", Room::kAnalysis, 0,
         fmt::format("the names of {} types lie in parts of files that the core does not hold and that were not "
                     "found here; give the files with --exe or --sysroot",
                     unnamed)});
  }

  const Process& process_;
  const bool malloc_swept_;  // or there is nothing of it to sweep
  const bool list_blocks_;
  const PyRuntime& runtime_;
  std::uint64_t mapped_bytes_;
  Progress& progress_;
  Findings& findings_;
  std::unique_ptr<TypeTable> types_;
  Sweep sweep_;
  std::vector<BlockColumns> blocks_;
  bool debug_hooks_ = false;
  bool lacked_array_items_ = false;
  std::uint64_t listed_in_swept_memory_ = 0;  // of the lists that were walked
};

}  // namespace

Census take_census_of_blocks(const Process& process, Progress& progress, Findings& findings) {
  return CensusTaker(process, progress, findings, true).run();
}

Census take_census(const Process& process, Progress& progress, Findings& findings, BlockTable* blocks) {
  CensusTaker taker(process, progress, findings, blocks != nullptr);
  Census census = taker.run();
  if (blocks != nullptr) *blocks = BlockTable(taker.take_blocks());
  return census;
}

}  // namespace heapcore

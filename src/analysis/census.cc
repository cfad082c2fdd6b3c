#include "analysis/census.h"

#include <fmt/format.h>
#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>
#include <tbb/task_group.h>

#include <algorithm>
#include <bit>

#include "glibc_heap/chunks.h"
#include "pyobj/gc_lists.h"
#include "pyobj/mimalloc.h"
#include "pyobj/number_blocks.h"
#include "pyobj/objects.h"
#include "pyobj/obmalloc.h"

namespace heapcore {
namespace {

// What one thread has seen. Merged at the end; sums do not depend on who saw what.
struct Tally {
  Tally(const Process& process, TypeTable& types, bool list_blocks)
      : objects(process.snapshot, process.runtime()->traits, types), lists_blocks(list_blocks) {}

  void count(const ObjectView& object, std::uint64_t bytes) {
    if (object.type.id >= by_type.size()) by_type.resize(object.type.id + 1);
    TypeTotals& of_size = by_size[static_cast<std::size_t>(std::bit_width(bytes))];
    for (TypeTotals* totals : {&by_type[object.type.id], &of_size}) {
      totals->all.add(bytes);
      if (object.tracked) totals->tracked.add(bytes);
    }
  }

  // Takes an object out of the tracked ones. The counts may wrap; they come right when the tallies are summed.
  void uncount_tracked(const ObjectView& object, std::uint64_t bytes) {
    if (object.type.id >= by_type.size()) by_type.resize(object.type.id + 1);
    TypeTotals& of_size = by_size[static_cast<std::size_t>(std::bit_width(bytes))];
    for (TypeTotals* totals : {&by_type[object.type.id], &of_size}) {
      --totals->tracked.count;
      totals->tracked.bytes -= bytes;
    }
  }

  ObjectReader objects;
  std::vector<TypeTotals> by_type;
  std::array<TypeTotals, kSizeClasses> by_size;
  GcRingCheck rings;
  MiFreeBlocks mi_free;
  std::vector<std::byte> copied;
  BlockContents pools;
  BlockContents chunks;
  BlockContents mmapped;
  std::vector<Addr> damaged_pools;  // left out of the sweep
  bool lists_blocks;                // are they to be listed?
  BlockColumns blocks;
  Findings findings;
};

// The blocks of one kind of number, sorted.
struct NumberBlocks {
  Addr type = 0;
  std::vector<Addr> blocks;
};

class CensusTaker {
 public:
  CensusTaker(const Process& process, Progress& progress, Findings& findings, bool list_blocks)
      : process_(process),
        list_blocks_(list_blocks),
        runtime_(*process.runtime()),
        mapped_bytes_(process.snapshot.mapped_bytes()),
        progress_(progress),
        findings_(findings),
        types_(std::make_unique<TypeTable>(process.snapshot, runtime_)),
        tallies_([this] { return Tally(process_, *types_, list_blocks_); }),
        collecting_(std::any_of(runtime_.interpreters.begin(), runtime_.interpreters.end(),
                                [](const Interpreter& interpreter) { return interpreter.gc_collecting; })) {}

  Census run() {
    sweep();
    Census census;
    GcRingCheck rings;
    for (Tally& tally : tallies_) {
      merge_counts(census, tally);
      rings.merge(tally.rings);
      merge(census.pools, tally.pools);
      merge(census.chunks, tally.chunks);
      merge(census.mmapped, tally.mmapped);
      damaged_pools_.insert(damaged_pools_.end(), tally.damaged_pools.begin(), tally.damaged_pools.end());
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
    std::sort(damaged_pools_.begin(), damaged_pools_.end());
    census.by_type.resize(types_->size());
    settle_lists(census, rings);
    for (TypeTotals& totals : census.by_type) drop_wrapped(totals);
    for (TypeTotals& totals : census.by_size) drop_wrapped(totals);
    for (const TypeTotals& totals : census.by_type) {
      census.total += totals.all;
      census.tracked += totals.tracked;
    }
    report_unnamed();
    report_unmeasured();
    report_unswept_allocator();
    report_missed_obmalloc(census);
    census.python_allocator = python_allocator(census);
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

  void sweep() {
    if (runtime_.arenas) {
      Reader reader(process_.snapshot.space);
      arenas_ = read_arenas(reader, runtime_, findings_);
    }
    for (const NumberBlockList& list : runtime_.number_blocks) add_number_blocks(list);
    // Where mimalloc has all objects, malloc's chunks hold none.
    const bool in_mimalloc = runtime_.traits.obmalloc_home == ObmallocHome::kNowhere;
    const Heap* heap = process_.heap();
    if (runtime_.mimalloc) read_mimalloc();
    std::uint64_t total = arenas_.size() * runtime_.traits.arena_bytes;
    for (const MiPage& page : mi_pages_) total += page.span_bytes;
    if (heap != nullptr) {
      for (const Region& region : heap->regions) total += region.range.size_bytes();
    }
    progress_.begin("decode", total);
    tbb::task_group tasks;
    if (heap != nullptr) {
      // A region cannot be split, its chunks being found one after the other; so these go first.
      for (const Region& region : heap->regions) {
        tasks.run([this, heap, &region, in_mimalloc] {
          in_mimalloc ? pass_region(*heap, region, tallies_.local()) : sweep_region(*heap, region, tallies_.local());
        });
      }
      tasks.run([this, heap, in_mimalloc] {
        in_mimalloc ? pass_mmapped(*heap, tallies_.local()) : sweep_mmapped(*heap, tallies_.local());
      });
    }
    tasks.run([this] {
      tbb::parallel_for(std::size_t{0}, arenas_.size(),
                        [this](std::size_t i) { sweep_arena(arenas_[i], tallies_.local()); });
    });
    tasks.run([this] {
      tbb::parallel_for(std::size_t{0}, mi_pages_.size(),
                        [this](std::size_t i) { sweep_mi_page(mi_pages_[i], tallies_.local()); });
    });
    for (const NumberBlocks& numbers : number_blocks_) {
      tasks.run([this, &numbers] { sweep_numbers(numbers, tallies_.local()); });
    }
    tasks.wait();
    progress_.end();
  }

  void add_number_blocks(const NumberBlockList& list) {
    Reader reader(process_.snapshot.space);
    number_blocks_.push_back({list.type, read_number_blocks(reader, runtime_.traits, list, findings_)});
  }

  void sweep_numbers(const NumberBlocks& numbers, Tally& tally) {
    ObjectView object;
    object.type = tally.objects.types().lookup(numbers.type);
    if (object.type.id == kNoType) return;
    for (const Addr address : numbers.blocks) {
      const auto bytes = tally.objects.reader().span(address, number_block_bytes(runtime_.traits));
      for_each_number(runtime_.traits, numbers.type, address, bytes, [&](Addr number) {
        object.address = number;
        tally.count(object, object.type.basicsize);
        if (tally.lists_blocks)
          tally.blocks.add_object(number, object.type.id, false, runtime_.traits.layout->PyIntObject.size_bytes);
      });
    }
  }

  bool is_number_block(const Chunk& chunk) const {
    if (number_blocks_.empty() || chunk.user_bytes() < number_block_bytes(runtime_.traits)) return false;
    return std::any_of(number_blocks_.begin(), number_blocks_.end(), [&](const NumberBlocks& numbers) {
      return std::binary_search(numbers.blocks.begin(), numbers.blocks.end(), chunk.user_address());
    });
  }

  void sweep_arena(const PyArena& arena, Tally& tally) {
    const PyTraits& traits = runtime_.traits;
    FreeBlocks free;
    for (Addr at = arena.first_pool; at < arena.carved_end; at += traits.pool_bytes) {
      const std::span<const std::byte> bytes = tally.objects.reader().span(at, traits.pool_bytes);
      PoolHeader pool;
      if (bytes.empty()) {
        report_missing_pool(at, tally.findings);
        continue;
      }
      if (!read_pool(bytes, at, arena, traits, pool, tally.findings)) {
        tally.damaged_pools.push_back(at);
        continue;
      }
      if (pool.blocks_in_use != 0) sweep_pool(bytes, pool, free, tally);
    }
    progress_.advance(traits.arena_bytes);
  }

  void sweep_pool(std::span<const std::byte> bytes, const PoolHeader& pool, FreeBlocks& free, Tally& tally) {
    read_free_blocks(bytes, pool, free, tally.findings);
    tally.objects.start_pool();
    std::uint32_t block = 0;
    for (std::uint32_t offset = pool.first_block; offset < pool.nextoffset; offset += pool.block_bytes, ++block) {
      if (free.test(block)) continue;
      sweep_block(pool.address + offset, bytes.subspan(offset, pool.block_bytes), pool.block_bytes, tally.pools, tally);
    }
  }

  void read_mimalloc() {
    Reader reader(process_.snapshot.space);
    mi_delayed_ = read_delayed_frees(reader, runtime_, findings_);
    for (const MiSegment& segment : read_mi_segments(reader, runtime_, findings_))
      mi_pages_.insert(mi_pages_.end(), segment.pages.begin(), segment.pages.end());
  }

  void sweep_mi_page(const MiPage& page, Tally& tally) {
    Reader& reader = tally.objects.reader();
    read_free_blocks(reader, page, mi_delayed_, tally.mi_free, tally.findings);
    // With the GIL mimalloc has one heap for all.
    const bool by_heap = runtime_.traits.gc_head == GcHead::kNone;
    const bool may_hold_objects = !by_heap || page.heap != MiHeap::kMem;
    tally.objects.start_pool();
    std::uint64_t missing = 0;
    for (std::uint32_t i = 0; i < page.capacity; ++i) {
      if (tally.mi_free.test(i)) continue;
      const Addr address = page.first_block + i * page.block_bytes;
      bool is_object = false;
      ObjectView object;
      std::span<const std::byte> bytes;
      if (may_hold_objects) {
        bytes = reader.span(address, page.block_bytes);
        if (bytes.empty()) bytes = read_part(reader, address, page.block_bytes, tally.copied);
        is_object = by_heap ? tally.objects.recognise_in_page(address, bytes, page.header_bytes(), object)
                            : tally.objects.recognise(address, bytes, object);
        if (is_object && !by_heap && object.tracked)
          tally.rings.add(object.address - runtime_.traits.gc_head_bytes(), object.gc_next);
        missing += bytes.empty() ? 1 : 0;
      }
      note_block(is_object ? &object : nullptr, address, bytes, page.block_bytes, tally.pools, tally);
    }
    if (missing != 0) {
      tally.findings.add({"mimalloc-page-missing", Room::kAnalysis, page.first_block,
                          fmt::format("{} blocks of a page of mimalloc's are not in the snapshot; what they hold is "
                                      "not counted",
                                      missing)});
    }
    progress_.advance(page.span_bytes);
  }

  // A block that is not in one piece in the snapshot, or of which only the beginning is there.
  static std::span<const std::byte> read_part(Reader& reader, Addr address, std::uint64_t block_bytes,
                                              std::vector<std::byte>& copied) {
    constexpr std::uint64_t kMaxCopiedBytes = 1 << 20;
    copied.resize(std::min(block_bytes, kMaxCopiedBytes));
    if (reader.read(address, copied)) return copied;
    const std::span<const std::byte> present = reader.span_to_end(address);
    return present.first(std::min<std::uint64_t>(present.size(), block_bytes));
  }

  // Counts a block, and the object in it if there is one.
  void sweep_block(Addr address, std::span<const std::byte> bytes, std::uint64_t block_bytes, BlockContents& contents,
                   Tally& tally) {
    ObjectView object;
    const bool is_object = !bytes.empty() && tally.objects.recognise(address, bytes, object) &&
                           known_to_neighbours(object, contents, tally);
    note_block(is_object ? &object : nullptr, address, bytes, block_bytes, contents, tally);
    if (is_object && object.tracked) tally.rings.add(object.address - runtime_.traits.gc_head_bytes(), object.gc_next);
  }

  void note_block(const ObjectView* object, Addr address, std::span<const std::byte> bytes, std::uint64_t block_bytes,
                  BlockContents& contents, Tally& tally) {
    (object != nullptr ? contents.objects : contents.other).add(block_bytes);
    if (object != nullptr) tally.count(*object, checked_size(*object, bytes.subspan(object->offset), tally));
    if (!tally.lists_blocks) return;
    if (object != nullptr) {
      tally.blocks.add_object(object->address, object->type.id, object->tracked, block_bytes);
    } else {
      tally.blocks.add_raw(address, block_bytes);
    }
  }

  // A chunk may hold anything, what was freed there too; so there a tracked object has to be known to its neighbours.
  bool known_to_neighbours(const ObjectView& object, const BlockContents& contents, Tally& tally) {
    if (&contents == &tally.pools || !object.tracked || collecting_) return true;
    return tally.objects.is_linked(object);
  }

  // A length that makes an object larger than all that is mapped is damage; then the object counts with its block.
  std::uint64_t checked_size(const ObjectView& object, std::span<const std::byte> bytes, Tally& tally) {
    const std::uint64_t size = tally.objects.size_of(object, bytes);
    if (size <= mapped_bytes_) return size;
    tally.findings.add(
        {"object-size-damaged", Room::kAnalysis, object.address,
         fmt::format("an object's length makes it {} bytes large; it is counted with the {} of its block", size,
                     bytes.size())});
    return bytes.size();
  }

  void sweep_region(const Heap& heap, const Region& region, Tally& tally) {
    Reader walker(process_.snapshot.space);
    std::uint64_t done = 0;
    tally.objects.start_pool();
    for_each_chunk(heap, walker, region, tally.findings, [&](const Chunk& chunk) {
      if (!chunk.in_use()) return;
      const std::span<const std::byte> bytes = tally.objects.reader().span(chunk.user_address(), chunk.user_bytes());
      if (is_number_block(chunk)) {  // those are swept by their lists
        tally.chunks.objects.add(chunk.size_bytes);
      } else {
        sweep_block(chunk.user_address(), bytes, chunk.size_bytes, tally.chunks, tally);
      }
      done += chunk.size_bytes;
      if (done > (4 << 20)) {
        progress_.advance(done);
        done = 0;
      }
    });
    progress_.advance(done);
  }

  // Notes the chunks in use of a region that holds no objects.
  void pass_region(const Heap& heap, const Region& region, Tally& tally) {
    Reader walker(process_.snapshot.space);
    for_each_chunk(heap, walker, region, tally.findings, [&](const Chunk& chunk) {
      if (chunk.in_use()) note_block(nullptr, chunk.user_address(), {}, chunk.size_bytes, tally.chunks, tally);
    });
    progress_.advance(region.range.size_bytes());
  }

  void pass_mmapped(const Heap& heap, Tally& tally) {
    for (const MmappedChunk& chunk : heap.mmapped)
      note_block(nullptr, chunk.address + kChunkHeaderBytes, {}, chunk.mapping.size_bytes(), tally.mmapped, tally);
  }

  void sweep_mmapped(const Heap& heap, Tally& tally) {
    for (const MmappedChunk& chunk : heap.mmapped) {
      tally.objects.start_pool();
      const Addr user = chunk.address + kChunkHeaderBytes;
      const std::span<const std::byte> bytes = tally.objects.reader().span(user, chunk.mapping.end - user);
      sweep_block(user, bytes, chunk.mapping.size_bytes(), tally.mmapped, tally);
    }
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
    if (!tally.objects.at(node + runtime_.traits.gc_head_bytes(), object) || object.type.header_bytes == 0) {
      findings_.add(
          {"gc-object-damaged", Room::kAnalysis, node, "what a list of the collector names here is no object"});
      return;
    }
    const std::span<const std::byte> bytes = tally.objects.reader().span_to_end(object.address);
    const std::uint64_t size = checked_size(object, bytes.first(std::min<std::size_t>(bytes.size(), 4096)), tally);
    if (in_swept_memory(node)) {
      ++listed_in_swept_memory_;
    } else {
      tally.count(object, size);
      if (tally.lists_blocks) tally.blocks.add_object(object.address, object.type.id, object.tracked, size);
      ++census.objects_elsewhere;
    }
    if (permanent) tally.uncount_tracked(object, size);
  }

  bool in_swept_memory(Addr address) const {
    const auto arena = std::upper_bound(arenas_.begin(), arenas_.end(), address,
                                        [](Addr a, const PyArena& entry) { return a < entry.address; });
    if (arena != arenas_.begin() && address - (arena - 1)->address < runtime_.traits.arena_bytes) {
      const Addr pool = align_down(address, runtime_.traits.pool_bytes);
      return !std::binary_search(damaged_pools_.begin(), damaged_pools_.end(), pool);
    }
    const auto page = std::upper_bound(mi_pages_.begin(), mi_pages_.end(), address,
                                       [](Addr a, const MiPage& entry) { return a < entry.first_block; });
    if (page != mi_pages_.begin() && address - (page - 1)->first_block < (page - 1)->span_bytes) return true;
    const Heap* heap = process_.heap();
    if (heap == nullptr) return false;
    if (heap->region_at(address) != nullptr) return true;
    return std::any_of(heap->mmapped.begin(), heap->mmapped.end(),
                       [&](const MmappedChunk& chunk) { return chunk.mapping.contains(address); });
  }

  std::string python_allocator(const Census& census) const {
    const char* suffix = debug_hooks_ ? "_debug" : "";
    if (runtime_.mimalloc) return fmt::format("mimalloc{}", suffix);
    if (runtime_.arenas) return fmt::format("pymalloc{}", suffix);
    return census.chunks.objects.count != 0 && census.objects_elsewhere == 0 ? fmt::format("malloc{}", suffix) : "";
  }

  // jemalloc and its like are named, not walked. What the collector tracks of their memory was found through its lists.
  // Without obmalloc all objects are malloc's (PYTHONMALLOC=malloc). If some that are tracked are not, obmalloc is in
  // use after all.
  void report_missed_obmalloc(const Census& census) {
    if (runtime_.arenas || runtime_.mimalloc || census.objects_elsewhere == 0) return;
    findings_.add(
        {"obmalloc-missed", Room::kAnalysis, 0,
         "CPython's small-object allocator was not found, yet not all objects are malloc's: those in its pools that "
         "the collector does not track are not counted"});
  }

  void report_unswept_allocator() {
    if (process_.heap() != nullptr || runtime_.mimalloc) return;
    findings_.add(
        {"allocator-not-swept", Room::kAnalysis, 0,
         fmt::format("there is no glibc malloc to sweep ({}): objects outside obmalloc's pools that the collector "
                     "does not track, such as long strings, are not counted",
                     process_.malloc.why_not)});
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
  const bool list_blocks_;
  const PyRuntime& runtime_;
  std::uint64_t mapped_bytes_;
  Progress& progress_;
  Findings& findings_;
  std::unique_ptr<TypeTable> types_;
  std::vector<PyArena> arenas_;
  std::vector<MiPage> mi_pages_;
  std::vector<Addr> mi_delayed_;  // sorted
  std::vector<NumberBlocks> number_blocks_;
  std::vector<Addr> damaged_pools_;  // sorted
  std::vector<BlockColumns> blocks_;
  bool debug_hooks_ = false;
  bool lacked_array_items_ = false;
  std::uint64_t listed_in_swept_memory_ = 0;  // of the lists that were walked
  tbb::enumerable_thread_specific<Tally> tallies_;
  bool collecting_;
};

}  // namespace

Census take_census(const Process& process, Progress& progress, Findings& findings, BlockTable* blocks) {
  CensusTaker taker(process, progress, findings, blocks != nullptr);
  Census census = taker.run();
  if (blocks != nullptr) *blocks = BlockTable(taker.take_blocks());
  return census;
}

}  // namespace heapcore

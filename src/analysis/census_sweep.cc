#include "analysis/census_sweep.h"

#include <tbb/parallel_for.h>
#include <tbb/task_group.h>

#include <algorithm>

#include "pyobj/number_blocks.h"

namespace heapcore {

Sweep::Sweep(const Process& process, TypeTable& types, bool list_blocks, Findings& findings)
    : process_(process),
      runtime_(*process.runtime()),
      findings_(findings),
      collecting_(std::ranges::any_of(runtime_.interpreters, &Interpreter::gc_collecting)),
      tallies_([&process, &types, list_blocks] { return Tally(process, types, list_blocks); }) {}

void Sweep::run(Progress& progress) {
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
  progress_ = &progress;
  progress.begin("decode", total);
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
  for (const Tally& tally : tallies_)
    damaged_pools_.insert(damaged_pools_.end(), tally.damaged_pools.begin(), tally.damaged_pools.end());
  std::sort(damaged_pools_.begin(), damaged_pools_.end());
  take_back_phantoms();
  progress.end();
}

// In a pool's block in which an object keeps numbers, what looks like an object was one before the block was freed and
// given out again; obmalloc overwrites the first word only, and the new owner perhaps not much more.
void Sweep::take_back_phantoms() {
  std::vector<Addr> buffers;
  for (const Tally& tally : tallies_) buffers.insert(buffers.end(), tally.buffers.begin(), tally.buffers.end());
  std::sort(buffers.begin(), buffers.end());
  buffers.erase(std::unique(buffers.begin(), buffers.end()), buffers.end());
  Tally& tally = tallies_.local();
  tally.objects.collect_buffers(nullptr);
  std::vector<std::pair<Addr, Addr>> phantoms;  // the object and its block
  Findings known;                               // of the pools, from the sweep
  for (const Addr buffer : buffers) {
    const auto arena = std::upper_bound(arenas_.begin(), arenas_.end(), buffer,
                                        [](Addr a, const PyArena& entry) { return a < entry.address; });
    const Addr at = align_down(buffer, runtime_.traits.pool_bytes);
    if (arena == arenas_.begin() || at < (arena - 1)->first_pool || at >= (arena - 1)->carved_end) continue;
    const std::span<const std::byte> bytes = tally.objects.reader().span(at, runtime_.traits.pool_bytes);
    PoolHeader pool;
    if (bytes.empty() || !read_pool(bytes, at, *(arena - 1), runtime_.traits, pool, known)) continue;
    if (pool.block_bytes == 0 || buffer - at < pool.first_block || buffer - at >= pool.nextoffset) continue;
    const std::uint64_t offset = buffer - at - (buffer - at - pool.first_block) % pool.block_bytes;
    const std::span<const std::byte> block = bytes.subspan(offset, pool.block_bytes);
    ObjectView object;
    tally.objects.start_pool();
    if (!tally.objects.recognise(at + offset, block, object)) continue;
    tally.uncount(object, tally.checked_size(object, block.subspan(object.offset)), pool.block_bytes, tally.pools);
    if (object.tracked) tally.rings.remove(object.address - runtime_.traits.gc_head_bytes(), object.gc_next);
    phantoms.emplace_back(object.address, at + offset);
  }
  for (Tally& each : tallies_) each.blocks.make_raw(phantoms);
}

void Sweep::add_number_blocks(const NumberBlockList& list) {
  Reader reader(process_.snapshot.space);
  number_blocks_.push_back({list.type, read_number_blocks(reader, runtime_.traits, list, findings_)});
}

void Sweep::sweep_numbers(const NumberBlocks& numbers, Tally& tally) {
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

bool Sweep::is_number_block(const Chunk& chunk) const {
  if (number_blocks_.empty() || chunk.user_bytes() < number_block_bytes(runtime_.traits)) return false;
  return std::any_of(number_blocks_.begin(), number_blocks_.end(), [&](const NumberBlocks& numbers) {
    return std::binary_search(numbers.blocks.begin(), numbers.blocks.end(), chunk.user_address());
  });
}

void Sweep::sweep_arena(const PyArena& arena, Tally& tally) {
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
  progress_->advance(traits.arena_bytes);
}

void Sweep::sweep_pool(std::span<const std::byte> bytes, const PoolHeader& pool, FreeBlocks& free, Tally& tally) {
  read_free_blocks(bytes, pool, free, tally.findings);
  tally.objects.start_pool();
  std::uint32_t block = 0;
  for (std::uint32_t offset = pool.first_block; offset < pool.nextoffset; offset += pool.block_bytes, ++block) {
    if (free.test(block)) continue;
    sweep_block(pool.address + offset, bytes.subspan(offset, pool.block_bytes), pool.block_bytes, tally.pools, tally);
  }
}

void Sweep::read_mimalloc() {
  Reader reader(process_.snapshot.space);
  mi_delayed_ = read_delayed_frees(reader, runtime_, findings_);
  for (const MiSegment& segment : read_mi_segments(reader, runtime_, findings_))
    mi_pages_.insert(mi_pages_.end(), segment.pages.begin(), segment.pages.end());
}

void Sweep::sweep_mi_page(const MiPage& page, Tally& tally) {
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
    tally.note_block(is_object ? &object : nullptr, address, bytes, page.block_bytes, tally.pools);
  }
  if (missing != 0) {
    tally.findings.add({"mimalloc-page-missing", Room::kAnalysis, page.first_block,
                        fmt::format("{} blocks of a page of mimalloc's are not in the snapshot; what they hold is "
                                    "not counted",
                                    missing)});
  }
  progress_->advance(page.span_bytes);
}

// A block that is not in one piece in the snapshot, or of which only the beginning is there.
std::span<const std::byte> Sweep::read_part(Reader& reader, Addr address, std::uint64_t block_bytes,
                                            std::vector<std::byte>& copied) {
  constexpr std::uint64_t kMaxCopiedBytes = 1 << 20;
  copied.resize(std::min(block_bytes, kMaxCopiedBytes));
  if (reader.read(address, copied)) return copied;
  const std::span<const std::byte> present = reader.span_to_end(address);
  return present.first(std::min<std::uint64_t>(present.size(), block_bytes));
}

// Counts a block, and the object in it if there is one.
void Sweep::sweep_block(Addr address, std::span<const std::byte> bytes, std::uint64_t block_bytes,
                        BlockContents& contents, Tally& tally) {
  ObjectView object;
  const bool is_object =
      !bytes.empty() && tally.objects.recognise(address, bytes, object) && known_to_neighbours(object, contents, tally);
  tally.note_block(is_object ? &object : nullptr, address, bytes, block_bytes, contents);
  if (is_object && object.tracked) tally.rings.add(object.address - runtime_.traits.gc_head_bytes(), object.gc_next);
}

// A chunk may hold anything, what was freed there too; so there a tracked object has to be known to its neighbours.
bool Sweep::known_to_neighbours(const ObjectView& object, const BlockContents& contents, Tally& tally) {
  if (&contents == &tally.pools || !object.tracked || collecting_) return true;
  return tally.objects.is_linked(object);
}

void Sweep::sweep_region(const Heap& heap, const Region& region, Tally& tally) {
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
      progress_->advance(done);
      done = 0;
    }
  });
  progress_->advance(done);
}

// Notes the chunks in use of a region that holds no objects.
void Sweep::pass_region(const Heap& heap, const Region& region, Tally& tally) {
  Reader walker(process_.snapshot.space);
  for_each_chunk(heap, walker, region, tally.findings, [&](const Chunk& chunk) {
    if (chunk.in_use()) tally.note_block(nullptr, chunk.user_address(), {}, chunk.size_bytes, tally.chunks);
  });
  progress_->advance(region.range.size_bytes());
}

void Sweep::pass_mmapped(const Heap& heap, Tally& tally) {
  for (const MmappedChunk& chunk : heap.mmapped)
    tally.note_block(nullptr, chunk.address + kChunkHeaderBytes, {}, chunk.mapping.size_bytes(), tally.mmapped);
}

void Sweep::sweep_mmapped(const Heap& heap, Tally& tally) {
  for (const MmappedChunk& chunk : heap.mmapped) {
    tally.objects.start_pool();
    const Addr user = chunk.address + kChunkHeaderBytes;
    const std::span<const std::byte> bytes = tally.objects.reader().span(user, chunk.mapping.end - user);
    sweep_block(user, bytes, chunk.mapping.size_bytes(), tally.mmapped, tally);
  }
}

std::vector<SweptMemory> Sweep::memory() const {
  std::vector<SweptMemory> memory;
  for (const PyArena& arena : arenas_)
    memory.push_back({{arena.first_pool, std::max(arena.first_pool, arena.carved_end)}, &TypeBlockBytes::pools});
  for (const MiPage& page : mi_pages_)
    memory.push_back({{page.first_block, page.first_block + page.span_bytes}, &TypeBlockBytes::pools});
  if (const Heap* heap = process_.heap()) {
    for (const Region& region : heap->regions) memory.push_back({region.range, &TypeBlockBytes::chunks});
    for (const MmappedChunk& chunk : heap->mmapped) memory.push_back({chunk.mapping, &TypeBlockBytes::mmapped});
  }
  std::stable_sort(memory.begin(), memory.end(),
                   [](const SweptMemory& a, const SweptMemory& b) { return a.range.start < b.range.start; });
  return memory;
}

bool Sweep::covers(Addr address) const {
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

}  // namespace heapcore

#include "analysis/sight.h"

#include <algorithm>

#include "glibc_heap/chunks.h"
#include "pyobj/refcounts.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kWordBytes = 8;
// How far before an address in static data an object that holds it may begin: more than any static type has bytes.
constexpr std::uint64_t kStaticReach = 2048;
// No object of a living process has so many references; such a count says that it lives for ever (3.12+).
constexpr std::int64_t kImmortalFrom = std::int64_t{1} << 31;

}  // namespace

Observer::Observer(Process& process, const ValueOptions& options) : process_(process), reader_(process.snapshot.space) {
  const PyRuntime* runtime = process.runtime();
  if (runtime == nullptr) return;
  arenas_ = read_arenas(reader_, *runtime, process.findings);
  segments_ = read_mi_segments(reader_, *runtime, process.findings);
  if (!segments_.empty()) delayed_ = read_delayed_frees(reader_, *runtime, process.findings);
  types_ = std::make_unique<TypeTable>(process.snapshot, *runtime);
  objects_.emplace(process.snapshot, runtime->traits, *types_);
  ValueOptions with_room = options;
  with_room.room = [this](Addr object) { return room(object); };
  values_.emplace(process.snapshot, *runtime, *types_, with_room, process.findings);
}

// Of malloc's chunks this trusts the size that the chunk itself says: a damaged one costs no more than the check.
std::uint64_t Observer::room(Addr object) {
  constexpr std::uint64_t kUnknown = ~std::uint64_t{0};
  constexpr std::uint64_t kChunkFlags = 7;
  const PyTraits& traits = process_.runtime()->traits;
  const auto arena = std::upper_bound(arenas_.begin(), arenas_.end(), object,
                                      [](Addr address, const PyArena& each) { return address < each.address; });
  if (arena != arenas_.begin() && object - (arena - 1)->address < traits.arena_bytes) {
    const Addr at = align_down(object, traits.pool_bytes);
    PoolHeader pool;
    Findings said_elsewhere;
    const std::span<const std::byte> bytes = reader_.span(at, traits.pool_bytes);
    if (bytes.empty() || !read_pool(bytes, at, *(arena - 1), traits, pool, said_elsewhere)) return kUnknown;
    if (object - at < pool.first_block || pool.block_bytes == 0) return kUnknown;
    return pool.block_bytes - (object - at - pool.first_block) % pool.block_bytes;
  }
  ObjectView view;
  std::uint64_t size = 0;
  const Heap* heap = process_.heap();
  const bool in_heap =
      heap != nullptr && (heap->region_at(object) != nullptr ||
                          std::any_of(heap->mmapped.begin(), heap->mmapped.end(),
                                      [&](const auto& each) { return each.mapping.contains(object); }));
  if (!in_heap || !objects_->at(object, view)) return kUnknown;
  if (!reader_.try_load(object - view.type.header_bytes - kWordBytes, size)) return kUnknown;
  size &= ~kChunkFlags;
  return size > view.type.header_bytes + kWordBytes ? size - view.type.header_bytes : kUnknown;
}

std::optional<BlockPlace> Observer::pool_block(Addr address) {
  const PyTraits& traits = process_.runtime()->traits;
  const auto arena = std::find_if(arenas_.begin(), arenas_.end(),
                                  [&](const PyArena& each) { return address - each.address < traits.arena_bytes; });
  if (arena == arenas_.end()) return std::nullopt;
  BlockPlace place;
  place.arena = arena->address;
  place.state = BlockState::kNeverUsed;
  if (address < arena->first_pool || address >= arena->carved_end) return place;
  place.pool = align_down(address, traits.pool_bytes);
  const std::span<const std::byte> bytes = reader_.span(place.pool, traits.pool_bytes);
  PoolHeader pool;
  if (bytes.empty() || !read_pool(bytes, place.pool, *arena, traits, pool, process_.findings)) return place;
  place.block_bytes = pool.block_bytes;
  const std::uint64_t offset = address - place.pool;
  if (offset < pool.first_block) {
    place.state = BlockState::kHeader;
  } else if (pool.blocks_in_use == 0) {
    place.state = BlockState::kFree;
  } else {
    const auto index = static_cast<std::uint32_t>((offset - pool.first_block) / pool.block_bytes);
    place.address = place.pool + pool.first_block + std::uint64_t{index} * pool.block_bytes;
    if (place.address - place.pool >= pool.nextoffset) return place;
    FreeBlocks free;
    read_free_blocks(bytes, pool, free, process_.findings);
    place.state = free.test(index) ? BlockState::kFree : BlockState::kInUse;
  }
  return place;
}

std::optional<BlockPlace> Observer::page_block(Addr address) {
  const auto segment = std::find_if(segments_.begin(), segments_.end(),
                                    [&](const MiSegment& each) { return address - each.address < each.bytes; });
  if (segment == segments_.end()) return std::nullopt;
  BlockPlace place;
  place.allocator = "mimalloc";
  place.arena = segment->address;
  place.state = address - segment->address < segment->info_bytes ? BlockState::kHeader : BlockState::kNeverUsed;
  for (const MiPage& page : segment->pages) {
    if (address - page.first_block >= page.block_bytes * page.reserved) continue;
    const std::uint64_t index = (address - page.first_block) / page.block_bytes;
    place.pool = page.first_block;
    place.block_bytes = page.block_bytes;
    place.address = page.first_block + index * page.block_bytes;
    place.by_page = process_.runtime()->traits.gc_head == GcHead::kNone;
    place.holds_objects = !place.by_page || page.heap != MiHeap::kMem;
    place.header_bytes = page.header_bytes();
    if (index >= page.capacity) break;
    MiFreeBlocks free;
    read_free_blocks(reader_, page, delayed_, free, process_.findings);
    place.state = free.test(static_cast<std::uint32_t>(index)) ? BlockState::kFree : BlockState::kInUse;
    break;
  }
  return place;
}

bool Observer::recognise(Addr block, std::uint64_t bytes, const BlockPlace* place, ObjectView& object) {
  std::span<const std::byte> span = reader_.span_to_end(block);
  if (span.size() > bytes) span = span.first(bytes);
  objects_->start_pool();
  if (span.empty() || (place != nullptr && !place->holds_objects)) return false;
  if (place != nullptr && place->by_page) return objects_->recognise_in_page(block, span, place->header_bytes, object);
  return objects_->recognise(block, span, object);
}

bool Observer::static_object(Addr address, ObjectView& object) {
  const PyTraits& traits = process_.runtime()->traits;
  for (Addr at = align_down(address, kWordBytes); address - at < kStaticReach && at >= kWordBytes; at -= kWordBytes) {
    if (!objects_->at(at, object)) continue;
    const std::span<const std::byte> bytes = reader_.span_to_end(at);
    if (bytes.size() < object.type.basicsize || !is_referenced(traits, bytes)) continue;
    if (address - at < objects_->size_of(object, bytes) - object.type.header_bytes) return true;
  }
  return false;
}

bool Observer::find_object(const Sight& sight, ObjectView& object) {
  if (sight.block) {
    return sight.block->state == BlockState::kInUse &&
           recognise(sight.block->address, sight.block->block_bytes, &*sight.block, object);
  }
  if (sight.chunk && sight.chunk->kind == PlaceKind::kChunk) {
    const Chunk& chunk = *sight.chunk->chunk;
    if (!chunk.in_use()) return false;
    if (recognise(chunk.user_address(), chunk.user_bytes(), nullptr, object)) return true;
  } else if (sight.chunk && sight.chunk->kind == PlaceKind::kMmapped) {
    const MmappedChunk& chunk = *sight.chunk->mmapped;
    const Addr user = chunk.address + kChunkHeaderBytes;
    if (recognise(user, chunk.mapping.end - user, nullptr, object)) return true;
  } else if (sight.module != nullptr) {
    return static_object(sight.address, object);
  }
  // In what is no allocator's block, or one that many objects share, only an object's own address will do.
  return objects_->at(sight.address, object) &&
         is_referenced(process_.runtime()->traits, reader_.span_to_end(sight.address));
}

SeenObject Observer::describe(const ObjectView& object) {
  const TypeInfo& type = types_->info(object.type.id);
  const std::span<const std::byte> bytes = reader_.span_to_end(object.address);
  SeenObject seen;
  seen.address = object.address;
  seen.type = type.module.empty() ? type.name : type.module + "." + type.name;
  seen.type_address = type.address;
  seen.kind = type.kind;
  seen.refcount = reference_count(process_.runtime()->traits, bytes);
  seen.immortal = seen.refcount >= kImmortalFrom;
  seen.tracked = object.tracked;
  seen.bytes = objects_->size_of(object, bytes);
  seen.value = values_->describe(object.address);
  return seen;
}

Sight Observer::look(Addr address) {
  Sight sight;
  sight.address = address;
  sight.mapping = process_.snapshot.mapping_at(address);
  sight.module = process_.snapshot.module_at(address);
  if (sight.module != nullptr) sight.symbol = sight.module->symbol_at(address);
  if (const Heap* heap = process_.heap()) {
    Place place = place_of(process_.snapshot, *heap, address);
    if (place.kind != PlaceKind::kNone) sight.chunk = place;
  }
  if (process_.runtime() == nullptr || sight.mapping == nullptr) return sight;
  sight.block = pool_block(address);
  if (!sight.block) sight.block = page_block(address);
  ObjectView object;
  if (find_object(sight, object)) sight.object = describe(object);
  return sight;
}

}  // namespace heapcore

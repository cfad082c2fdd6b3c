#include "pyobj/obmalloc.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

namespace heapcore {
namespace {

constexpr std::uint32_t kMaxArenas = 1 << 24;  // 16 TiB of 1 MiB arenas: more than any address space

struct RawArena {
  Addr address = 0;
  Addr pool_address = 0;
  std::uint32_t nfreepools = 0;
  std::uint32_t ntotalpools = 0;
  Addr nextarena = 0;
};

bool load_raw(Reader& reader, const PyLayout& layout, Addr at, RawArena& raw) {
  const auto& fields = layout.arena_object;
  return reader.try_load(at + fields.address.offset, raw.address) &&
         reader.try_load(at + fields.pool_address.offset, raw.pool_address) &&
         reader.try_load(at + fields.nfreepools.offset, raw.nfreepools) &&
         reader.try_load(at + fields.ntotalpools.offset, raw.ntotalpools) &&
         reader.try_load(at + fields.nextarena.offset, raw.nextarena);
}

// An arena that does not start at a multiple of the pool size loses one pool.
std::uint32_t expected_pools(const PyTraits& traits, Addr address) {
  const auto whole = static_cast<std::uint32_t>(traits.arena_bytes / traits.pool_bytes);
  return is_aligned(address, traits.pool_bytes) ? whole : whole - 1;
}

bool plausible(const PyTraits& traits, const RawArena& raw) {
  return raw.ntotalpools == expected_pools(traits, raw.address) && raw.nfreepools <= raw.ntotalpools &&
         raw.pool_address >= raw.address && raw.pool_address <= raw.address + traits.arena_bytes;
}

template <typename T>
T load_at(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

// The unit of sizes is 8 bytes or 16, by version and build.
bool is_of_class(std::uint32_t block_bytes, std::uint32_t szidx) {
  const std::uint64_t units = std::uint64_t{szidx} + 1;
  return block_bytes == units * 8 || block_bytes == units * 16;
}

std::uint32_t load_u32(std::span<const std::byte> bytes, const Field& field) {
  return load_at<std::uint32_t>(bytes, field.offset);
}

void sort_and_separate(std::vector<PyArena>& result, const PyTraits& traits, Findings& findings) {
  std::sort(result.begin(), result.end(), [](const PyArena& a, const PyArena& b) { return a.address < b.address; });
  // Two entries for one place would count its blocks twice.
  for (std::size_t i = 1; i < result.size();) {
    if (result[i].address - result[i - 1].address >= traits.arena_bytes) {
      ++i;
      continue;
    }
    findings.add(
        {"obmalloc-arenas-overlap", Room::kPyobj, result[i].address, "two arena_objects claim the same memory"});
    result.erase(result.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

}  // namespace

bool verify_arena_table(Reader& reader, const PyTraits& traits, const ArenaTable& table) {
  if (table.address == 0 || table.count == 0 || table.count > kMaxArenas) return false;
  const PyLayout& layout = *traits.layout;
  std::uint32_t in_use = 0;
  std::uint32_t judged = 0;  // in use, and the snapshot has enough of the arena to tell
  std::uint32_t good = 0;
  for (std::uint32_t i = 0; i < table.count; ++i) {
    RawArena raw;
    if (!load_raw(reader, layout, table.address + std::uint64_t{i} * layout.arena_object.size_bytes, raw)) return false;
    if (raw.address == 0) continue;
    ++in_use;
    const Addr first_pool = align_up(raw.address, traits.pool_bytes);
    std::uint32_t index = 0;
    const bool readable = reader.try_load(first_pool + layout.pool_header.arenaindex.offset, index);
    if (!plausible(traits, raw)) {
      ++judged;
    } else if (readable) {
      ++judged;
      if (index == i) ++good;
    }
  }
  // A damaged arena or two must not cost the whole heap.
  return in_use != 0 && (good * 4 >= judged * 3 || (good >= 2 && judged - good == 1));
}

std::uint32_t plausible_arena_count(Reader& reader, const PyTraits& traits, Addr address) {
  const PyLayout& layout = *traits.layout;
  const std::uint64_t stride = layout.arena_object.size_bytes;
  RawArena raw;
  // Arenas are handed out from the lowest index on, so the first entry has been used once: cheap to reject on.
  if (!load_raw(reader, layout, address, raw) || raw.ntotalpools == 0 || raw.ntotalpools > 256) return 0;
  std::uint32_t count = 0;
  bool any_in_use = false;
  bool any_damaged = false;
  bool chain_ended = false;
  for (; count < kMaxArenas; ++count) {
    if (!load_raw(reader, layout, address + count * stride, raw)) break;
    if (raw.address == 0) {
      // Unused entries are chained, so one of them at most links nowhere; that bounds the count where zeros follow.
      const Addr link = raw.nextarena - address;
      if (raw.nextarena == 0 ? chain_ended : link % stride != 0 || link / stride >= kMaxArenas) break;
      chain_ended |= raw.nextarena == 0;
    } else if (!plausible(traits, raw)) {
      if (any_damaged) break;  // one may be damaged; more are no table
      any_damaged = true;
    } else {
      any_in_use = true;
    }
  }
  // The array doubles from 16; what lies behind it may look like unused entries.
  std::uint32_t rounded = 16;
  while (rounded * 2 <= count) rounded *= 2;
  return any_in_use && count >= 16 ? rounded : 0;
}

std::vector<PyArena> read_arenas(Reader& reader, const PyTraits& traits, const ArenaTable& table, Findings& findings) {
  std::vector<PyArena> result;
  const PyLayout& layout = *traits.layout;
  for (std::uint32_t i = 0; i < table.count; ++i) {
    const Addr at = table.address + std::uint64_t{i} * layout.arena_object.size_bytes;
    RawArena raw;
    if (!load_raw(reader, layout, at, raw)) {
      findings.add({"obmalloc-table-missing", Room::kPyobj, at,
                    fmt::format("arena_objects from index {} on are not in the snapshot", i)});
      break;
    }
    if (raw.address == 0) continue;
    if (!plausible(traits, raw)) {
      findings.add({"obmalloc-arena-damaged", Room::kPyobj, at,
                    fmt::format("arena_object {} does not add up; its arena at {:#x} is left out", i, raw.address)});
      continue;
    }
    PyArena arena;
    arena.address = raw.address;
    arena.first_pool = align_up(raw.address, traits.pool_bytes);
    arena.carved_end = std::max(raw.pool_address, arena.first_pool);
    arena.index = i;
    arena.nfreepools = raw.nfreepools;
    arena.ntotalpools = raw.ntotalpools;
    result.push_back(arena);
  }
  sort_and_separate(result, traits, findings);
  return result;
}

std::vector<PyArena> read_arenas(Reader& reader, const PyRuntime& runtime, Findings& findings) {
  std::vector<PyArena> result;
  if (!runtime.arenas) return result;
  result = read_arenas(reader, runtime.traits, *runtime.arenas, findings);
  for (const ArenaTable& table : runtime.more_arenas) {
    const std::vector<PyArena> more = read_arenas(reader, runtime.traits, table, findings);
    result.insert(result.end(), more.begin(), more.end());
  }
  if (!runtime.more_arenas.empty()) sort_and_separate(result, runtime.traits, findings);
  return result;
}

bool read_pool(std::span<const std::byte> bytes, Addr address, const PyArena& arena, const PyTraits& traits,
               PoolHeader& pool, Findings& findings) {
  const auto& fields = traits.layout->pool_header;
  pool.address = address;
  pool.blocks_in_use = load_u32(bytes, fields.ref_count);
  pool.freeblock = load_at<Addr>(bytes, fields.freeblock.offset);
  pool.arenaindex = load_u32(bytes, fields.arenaindex);
  pool.nextoffset = load_u32(bytes, fields.nextoffset);
  pool.first_block = traits.layout->pool_header.size_bytes;
  pool.block_bytes = 0;
  if (pool.blocks_in_use == 0) return true;  // free: the rest of the header is stale
  const std::uint32_t maxnextoffset = load_u32(bytes, fields.maxnextoffset);
  const auto size = static_cast<std::uint32_t>(traits.pool_bytes);
  pool.block_bytes = maxnextoffset < size ? size - maxnextoffset : 0;
  const std::uint32_t szidx = load_u32(bytes, fields.szidx);
  const bool sound = pool.arenaindex == arena.index && pool.block_bytes >= 8 && pool.block_bytes % 8 == 0 &&
                     pool.block_bytes <= traits.largest_small_block && is_of_class(pool.block_bytes, szidx) &&
                     pool.nextoffset >= pool.first_block && pool.nextoffset <= size &&
                     (pool.nextoffset - pool.first_block) % pool.block_bytes == 0 &&
                     pool.blocks_in_use <= (size - pool.first_block) / pool.block_bytes;
  if (sound) return true;
  findings.add(
      {"obmalloc-pool-damaged", Room::kPyobj, address,
       fmt::format("the pool header at {:#x} does not add up; the {} bytes of the pool are left out", address, size)});
  return false;
}

void report_missing_pool(Addr address, Findings& findings) {
  findings.add({"obmalloc-pool-missing", Room::kPyobj, address,
                "a pool of an arena is not in the snapshot; what it holds is "
                "not counted"});
}

void read_free_blocks(std::span<const std::byte> bytes, const PoolHeader& pool, FreeBlocks& free, Findings& findings) {
  free.bits.fill(0);
  free.count = 0;
  const std::uint32_t carved = (pool.nextoffset - pool.first_block) / pool.block_bytes;
  Addr at = pool.freeblock;
  while (at != 0) {
    const Addr offset = at - pool.address;
    const bool inside = offset >= pool.first_block && offset < pool.nextoffset;
    const auto block = static_cast<std::uint32_t>((offset - pool.first_block) / pool.block_bytes);
    if (!inside || (offset - pool.first_block) % pool.block_bytes != 0 || free.test(block)) {
      findings.add({"obmalloc-freelist-damaged", Room::kPyobj, pool.address,
                    fmt::format("the free list of the pool at {:#x} {} at {:#x}", pool.address,
                                inside ? "meets itself or points into a block" : "leaves the pool", at)});
      return;
    }
    free.bits[block / 64] |= std::uint64_t{1} << (block % 64);
    ++free.count;
    at = load_at<Addr>(bytes, offset);
  }
  if (carved - free.count != pool.blocks_in_use) {
    findings.add({"obmalloc-count-disagrees", Room::kPyobj, pool.address,
                  fmt::format("the pool at {:#x} says {} blocks are in use, its free list leaves {}", pool.address,
                              pool.blocks_in_use, carved - free.count)});
  }
}

ObmallocUse summarise_obmalloc(const Snapshot& snapshot, const PyRuntime& runtime, Findings& findings) {
  ObmallocUse use;
  if (!runtime.arenas) return use;
  const PyTraits& traits = runtime.traits;
  Reader reader(snapshot.space);
  use.arena_bytes = traits.arena_bytes;
  use.pool_bytes = traits.pool_bytes;
  use.located_by = runtime.arenas->located_by;
  std::map<std::uint32_t, PoolClass> classes;
  for (const PyArena& arena : read_arenas(reader, runtime, findings)) {
    ArenaUse arena_use;
    arena_use.arena = arena;
    arena_use.bytes = traits.arena_bytes;
    std::uint64_t lost_pools = 0;
    for (Addr at = arena.first_pool; at < arena.carved_end; at += traits.pool_bytes) {
      const std::span<const std::byte> bytes = reader.span(at, traits.pool_bytes);
      PoolHeader pool;
      if (bytes.empty()) {
        report_missing_pool(at, findings);
        ++lost_pools;
        continue;
      }
      if (!read_pool(bytes, at, arena, traits, pool, findings)) {
        ++lost_pools;
        continue;
      }
      if (pool.blocks_in_use == 0) continue;
      const auto capacity = static_cast<std::uint32_t>((traits.pool_bytes - pool.first_block) / pool.block_bytes);
      PoolClass& size_class = classes[pool.block_bytes];
      size_class.block_bytes = pool.block_bytes;
      ++size_class.pools;
      size_class.blocks_in_use += pool.blocks_in_use;
      size_class.blocks_free += capacity - pool.blocks_in_use;
      ++arena_use.pools;
      arena_use.blocks_in_use += pool.blocks_in_use;
      arena_use.bytes_in_use += std::uint64_t{pool.blocks_in_use} * pool.block_bytes;
      use.bytes_free += std::uint64_t{capacity - pool.blocks_in_use} * pool.block_bytes;
    }
    // Of what was lost, the arena's own count tells how many pools are free at least elsewhere.
    const std::uint64_t not_in_use = arena.ntotalpools - std::min<std::uint64_t>(arena_use.pools, arena.ntotalpools);
    arena_use.free_pools = lost_pools == 0 ? not_in_use : std::min<std::uint64_t>(arena.nfreepools, not_in_use);
    use.bytes_lost += std::min(lost_pools, not_in_use - arena_use.free_pools) * traits.pool_bytes;
    if (lost_pools == 0 && arena_use.free_pools != arena.nfreepools) {
      findings.add({"obmalloc-arena-disagrees", Room::kPyobj, arena.address,
                    fmt::format("the arena at {:#x} says {} pools are free, {} are", arena.address, arena.nfreepools,
                                arena_use.free_pools)});
    }
    use.pools += arena_use.pools;
    use.free_pools += arena_use.free_pools;
    use.blocks_in_use += arena_use.blocks_in_use;
    use.bytes_in_use += arena_use.bytes_in_use;
    use.arenas.push_back(arena_use);
  }
  for (const auto& [block_bytes, size_class] : classes) use.classes.push_back(size_class);
  use.bytes = use.arenas.size() * traits.arena_bytes;
  use.bytes_free_pools = use.free_pools * traits.pool_bytes;
  use.bytes_free += use.bytes_free_pools;
  use.bytes_overhead = use.bytes - use.bytes_in_use - use.bytes_free - use.bytes_lost;
  return use;
}

}  // namespace heapcore

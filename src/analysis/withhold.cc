#include "analysis/withhold.h"

#include <elf.h>

#include <algorithm>
#include <unordered_set>

#include "analysis/block_table.h"
#include "analysis/census.h"
#include "glibc_heap/chunks.h"
#include "pyobj/mimalloc.h"
#include "pyobj/obmalloc.h"
#include "pyobj/source_names.h"
#include "pyobj/strings.h"
#include "pyobj/text_bytes.h"

namespace heapcore {
namespace {

// What the allocators keep in free memory: fd, bk, fd_nextsize and bk_nextsize of a chunk; the header of a free pool,
// and the link of a block.
constexpr std::uint64_t kChunkLinkBytes = 4 * sizeof(Addr);
constexpr std::uint64_t kPoolHeaderBytes = 64;
constexpr std::uint64_t kBlockLinkBytes = sizeof(Addr);
constexpr std::uint64_t kRedZoneBytes = 128;  // in use below the stack pointer (System V ABI, x86-64)
constexpr std::uint64_t kMostAtOnce = std::uint64_t{1} << 40;

class Withholder {
 public:
  Withholder(const Process& process, Findings& findings)
      : process_(process),
        runtime_(*process.runtime()),
        layout_(*runtime_.traits.layout),
        reader_(process.snapshot.space),
        findings_(findings) {}

  Withheld run(Progress& progress) {
    BlockTable blocks;
    const Census census = take_census(process_, progress, findings_, &blocks);
    find_names(*census.types, blocks);
    for (BlockId id = 0; id < blocks.objects(); ++id) {
      const Kind kind = census.types->info(blocks.type(id)).kind;
      if (kind == Kind::kStr || kind == Kind::kUnicode || kind == Kind::kBytes) add_text(kind, blocks.address(id));
      if (kind == Kind::kByteArray) add_byte_array(blocks.address(id));
    }
    add_free_chunks();
    add_free_pools();
    add_free_of_mimalloc();
    add_environment();
    add_dead_stacks();
    make_disjoint();
    return std::move(out_);
  }

 private:
  Addr pointer(Addr object, const Field& field) {
    Addr value = 0;
    return field.present() && reader_.try_load(object + field.offset, value) ? value : 0;
  }

  // `n` as the target says it.
  void add(Addr address, std::uint64_t n) {
    if (address != 0 && n != 0 && n < kMostAtOnce && address < ~kMostAtOnce)
      out_.ranges.push_back({address, address + n});
  }

  void find_names(const TypeTable& types, const BlockTable& blocks) {
    for (TypeId id = 0; id < types.size(); ++id) {
      const TypeInfo& type = types.info(id);
      if (!type.is_heap_type) continue;
      names_.insert(pointer(type.address, layout_.PyHeapTypeObject.ht_name));
      names_.insert(pointer(type.address, layout_.PyHeapTypeObject.ht_qualname));
      keep_entry(pointer(type.address, layout_.PyTypeObject.tp_dict), "__module__");
    }
    for (BlockId id = 0; id < blocks.objects(); ++id) {
      const Addr object = blocks.address(id);
      switch (types.info(blocks.type(id)).kind) {
        case Kind::kCode:
          names_.insert(pointer(object, layout_.PyCodeObject.co_filename));
          names_.insert(pointer(object, layout_.PyCodeObject.co_name));
          names_.insert(pointer(object, layout_.PyCodeObject.co_qualname));
          // Tables without which frames tell neither their lines nor their locals.
          names_.insert(pointer(object, layout_.PyCodeObject.co_code));
          names_.insert(pointer(object, layout_.PyCodeObject.co_lnotab));
          names_.insert(pointer(object, layout_.PyCodeObject.co_linetable));
          names_.insert(pointer(object, layout_.PyCodeObject.co_exceptiontable));
          names_.insert(pointer(object, layout_.PyCodeObject.co_localspluskinds));
          break;
        case Kind::kFunction:
          names_.insert(pointer(object, layout_.PyFunctionObject.func_name));
          names_.insert(pointer(object, layout_.PyFunctionObject.func_qualname));
          break;
        case Kind::kModule:
          keep_names_of_module(pointer(object, layout_.PyModuleObject.md_dict));
          break;
        default:
          break;
      }
    }
  }

  // Its own, and of sys those under which all others are known.
  void keep_names_of_module(Addr dict) {
    keep_entry(dict, "__name__");
    const std::optional<Addr> name = dict == 0 ? std::nullopt : dict_get(reader_, runtime_.traits, dict, "__name__");
    if (!name || decode_str(reader_, runtime_.traits, *name, 3) != "sys") return;
    const std::optional<Addr> modules = dict_get(reader_, runtime_.traits, dict, "modules");
    if (!modules) return;
    for (const auto& [key, value] : dict_items(reader_, runtime_.traits, *modules)) names_.insert(key);
  }

  void keep_entry(Addr dict, std::string_view key) {
    if (dict == 0) return;
    if (const std::optional<Addr> value = dict_get(reader_, runtime_.traits, dict, key)) names_.insert(*value);
  }

  void add_text(Kind kind, Addr address) {
    const TextBytes text = text_bytes(reader_, runtime_.traits, kind, address);
    if (names_.contains(address) || is_source_name(reader_, runtime_.traits, address)) {
      out_.names.add(text.bytes.size());
      return;
    }
    out_.strings.add(text.bytes.size());
    if (text.sound) add(text.address, text.bytes.size());
    if (kind == Kind::kStr) add_other_forms(address, text.address);
  }

  // A str may keep its characters as UTF-8 and, to 3.11, as wchar_t as well.
  void add_other_forms(Addr str, Addr data) {
    std::uint32_t word = 0;
    if (!reader_.try_load(str + layout_.PyASCIIObject.state.offset, word)) return;
    const StrState state = unpack_str_state(runtime_.traits, word);
    const Field& wide = layout_.PyASCIIObject.wstr;
    const Addr wstr = pointer(str, wide);
    if (wstr != data) {
      const bool counted = !(state.compact && state.ascii);
      std::uint64_t length = counted ? pointer(str, layout_.PyCompactUnicodeObject.wstr_length)
                                     : pointer(str, layout_.PyASCIIObject.length);
      if (wstr != 0) add(wstr, std::min(length, kMostAtOnce) * 4);
    }
    if (state.compact && state.ascii) return;
    const Addr utf8 = pointer(str, layout_.PyCompactUnicodeObject.utf8);
    if (utf8 != data) add(utf8, pointer(str, layout_.PyCompactUnicodeObject.utf8_length));
  }

  void add_byte_array(Addr address) {
    const std::uint64_t bytes = pointer(address, layout_.PyByteArrayObject.ob_alloc);
    out_.strings.add(bytes);
    add(pointer(address, layout_.PyByteArrayObject.ob_bytes), bytes);
  }

  void add_free(Addr address, std::uint64_t bytes, std::uint64_t kept_bytes) {
    if (bytes <= kept_bytes) return;
    out_.free_bytes += bytes - kept_bytes;
    add(address + kept_bytes, bytes - kept_bytes);
  }

  void add_free_chunks() {
    const Heap* heap = process_.heap();
    if (heap == nullptr) return;
    Findings reported_elsewhere;  // by the census
    for (const Region& region : heap->regions) {
      for_each_chunk(*heap, reader_, region, reported_elsewhere, [&](const Chunk& chunk) {
        if (chunk.in_use()) return;
        // To the chunk behind it one in a tcache or a fastbin is in use, and reaches into its header; of another the
        // size stands there.
        const bool seems_used = chunk.state == ChunkState::kTcache || chunk.state == ChunkState::kFast;
        add_free(chunk.user_address(), seems_used ? chunk.user_bytes() : chunk.size_bytes - kChunkHeaderBytes,
                 kChunkLinkBytes);
      });
    }
  }

  void add_free_pools() {
    Findings reported_elsewhere;
    for (const PyArena& arena : read_arenas(reader_, runtime_, reported_elsewhere)) {
      const std::uint64_t pool_bytes = runtime_.traits.pool_bytes;
      for (Addr at = arena.first_pool; at < arena.carved_end; at += pool_bytes) {
        const std::span<const std::byte> bytes = reader_.span(at, pool_bytes);
        PoolHeader pool;
        if (bytes.empty() || !read_pool(bytes, at, arena, runtime_.traits, pool, reported_elsewhere)) continue;
        if (pool.blocks_in_use == 0) {
          add_free(at, pool_bytes, kPoolHeaderBytes);
        } else {
          add_free_blocks(bytes, pool);
        }
      }
    }
  }

  void add_free_blocks(std::span<const std::byte> bytes, const PoolHeader& pool) {
    Findings reported_elsewhere;
    FreeBlocks free;
    read_free_blocks(bytes, pool, free, reported_elsewhere);
    std::uint32_t block = 0;
    std::uint32_t offset = pool.first_block;
    for (; offset < pool.nextoffset; offset += pool.block_bytes, ++block) {
      if (free.test(block)) add_free(pool.address + offset, pool.block_bytes, kBlockLinkBytes);
    }
    // Never carved as this class; the pool may have been another's before.
    if (offset < bytes.size()) add_free(pool.address + offset, bytes.size() - offset, 0);
  }

  void add_free_of_mimalloc() {
    Findings reported_elsewhere;
    const std::vector<Addr> delayed = read_delayed_frees(reader_, runtime_, reported_elsewhere);
    MiFreeBlocks free;
    for (const MiSegment& segment : read_mi_segments(reader_, runtime_, reported_elsewhere)) {
      for (const MiPage& page : segment.pages) {
        read_free_blocks(reader_, page, delayed, free, reported_elsewhere);
        for (std::uint32_t i = 0; i < page.capacity; ++i) {
          if (free.test(i)) add_free(page.first_block + i * page.block_bytes, page.block_bytes, kBlockLinkBytes);
        }
      }
    }
  }

  // The kernel puts arguments and environment between what AT_RANDOM and AT_PLATFORM point to and the program's name.
  void add_environment() {
    Addr start = 0;
    Addr end = 0;
    for (const auto& [type, value] : process_.snapshot.auxv) {
      if (type == AT_RANDOM) start = std::max(start, value + 16);
      if (type == AT_PLATFORM || type == AT_BASE_PLATFORM) {
        const auto name = reader_.c_string(value);
        start = std::max(start, value + (name ? name->size() : 0) + 1);
      }
      if (type == AT_EXECFN) end = value;
    }
    if (start != 0 && start < end) add(start, end - start);
  }

  // What calls left behind that have returned: from the end of the stack to where it is in use. Only of what is a stack
  // and nothing else: the kernel's, or one with a guard page before it and nothing of an allocator in it.
  void add_dead_stacks() {
    const std::vector<Mapping>& mappings = process_.snapshot.mappings;
    for (const Thread& thread : process_.snapshot.threads) {
      const Mapping* stack = process_.snapshot.mapping_at(thread.sp);
      if (stack == nullptr || thread.sp < stack->start + kRedZoneBytes) continue;
      const AddrRange dead{stack->start, thread.sp - kRedZoneBytes};
      const bool is_guarded = stack != mappings.data() && stack[-1].end == stack->start && !stack[-1].readable;
      if (stack->path != "[stack]" && (!stack->path.empty() || !is_guarded || is_allocated(dead))) continue;
      add(dead.start, dead.size_bytes());
    }
  }

  bool is_allocated(AddrRange range) {
    const auto touches = [&](AddrRange other) { return other.start < range.end && range.start < other.end; };
    if (const Heap* heap = process_.heap()) {
      for (const Region& region : heap->regions) {
        if (touches(region.mapped())) return true;
      }
      for (const MmappedChunk& chunk : heap->mmapped) {
        if (touches(chunk.mapping)) return true;
      }
    }
    Findings reported_elsewhere;
    for (const MiSegment& segment : read_mi_segments(reader_, runtime_, reported_elsewhere)) {
      if (touches({segment.address, segment.address + segment.bytes})) return true;
    }
    for (const PyArena& arena : read_arenas(reader_, runtime_, reported_elsewhere)) {
      if (touches({arena.address, arena.address + runtime_.traits.arena_bytes})) return true;
    }
    return false;
  }

  void make_disjoint() {
    std::vector<AddrRange>& ranges = out_.ranges;
    std::sort(ranges.begin(), ranges.end(), [](const AddrRange& a, const AddrRange& b) { return a.start < b.start; });
    std::size_t kept = 0;
    for (const AddrRange& range : ranges) {
      if (kept != 0 && range.start <= ranges[kept - 1].end) {
        ranges[kept - 1].end = std::max(ranges[kept - 1].end, range.end);
      } else {
        ranges[kept++] = range;
      }
    }
    ranges.resize(kept);
  }

  const Process& process_;
  const PyRuntime& runtime_;
  const PyLayout& layout_;
  Reader reader_;
  Findings& findings_;
  std::unordered_set<Addr> names_;
  Withheld out_;
};

}  // namespace

Withheld contents_to_withhold(const Process& process, Progress& progress, Findings& findings) {
  return Withholder(process, findings).run(progress);
}

}  // namespace heapcore

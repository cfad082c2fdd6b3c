#include "sites.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "analysis/census.h"
#include "analysis/layouts.h"
#include "glibc_heap/chunks.h"
#include "pyobj/frames.h"
#include "pyobj/layout_entries.h"
#include "pyobj/mimalloc.h"
#include "pyobj/obmalloc.h"

namespace heapcore::damage {
namespace {

constexpr std::size_t kPlacesPerSite = 48;
constexpr std::size_t kObjectsPerType = 24;
constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint32_t kWordBytes = 8;

// Of fields.def.
const char* structure_name(StructId id) {
  static const std::vector<const char*> names = [] {
    std::vector<const char*> found;
    for (const LayoutEntry& entry : layout_entries()) {
      if (entry.field == nullptr) found.push_back(entry.structure);
    }
    return found;
  }();
  return names[static_cast<std::size_t>(id)];
}

// Every `step`th of `count`, so that about `wanted` are taken.
std::size_t step_of(std::size_t count, std::size_t wanted) {
  return std::max<std::size_t>(1, count / wanted);
}

class Finder {
 public:
  Finder(std::span<const std::byte> file, Process& process)
      : file_(file), process_(process), reader_(process.snapshot.space) {
    for (const LayoutRow& row : layout_rows(process)) fields_[row.structure].push_back({row.field, row.place});
  }

  Sites run() {
    add_headers();
    add_modules();
    if (process_.heap() != nullptr) add_malloc();
    if (process_.runtime() != nullptr) add_python();
    add_pages();
    for (std::size_t group = 0; group < std::size(kGroups); ++group) {
      for (auto& [name, places] : found_[group]) sites_.of_group[group].push_back({name, std::move(places)});
    }
    return std::move(sites_);
  }

 private:
  struct NamedField {
    std::string name;
    Field place;
  };

  void add_at(Group group, const std::string& name, std::uint64_t offset, Addr base, std::uint32_t width) {
    if (offset + width > file_.size()) return;
    std::vector<Place>& places = found_[static_cast<std::size_t>(group)][name];
    if (places.size() < kPlacesPerSite) places.push_back({offset, base, width});
  }

  // A field in the target's memory; nothing if the file does not hold it.
  void add(Group group, const std::string& name, Addr base, std::uint64_t offset, std::uint32_t width) {
    const std::span<const std::byte> bytes = reader_.span(base + offset, width);
    if (bytes.empty() || bytes.data() < file_.data() || bytes.data() >= file_.data() + file_.size()) return;
    add_at(group, name, static_cast<std::uint64_t>(bytes.data() - file_.data()), base, width);
  }

  // Every field of a structure; of an array some elements.
  void add_struct(Group group, const std::string& tag, Addr base, const std::string& note = "") {
    for (const NamedField& field : fields_[tag]) {
      const std::string name = tag + "." + field.name + note;
      if (field.place.width_bytes <= kWordBytes) {
        add(group, name, base, field.place.offset, field.place.width_bytes);
        continue;
      }
      const std::uint32_t words = field.place.width_bytes / kWordBytes;
      for (std::uint32_t i = 0; i < words; i += static_cast<std::uint32_t>(step_of(words, 16)))
        add(group, name, base, field.place.offset + i * kWordBytes, kWordBytes);
    }
  }

  void add_words(Group group, const std::string& name, Addr base, std::uint64_t bytes, std::size_t wanted) {
    const std::size_t words = bytes / kWordBytes;
    for (std::size_t i = 0; i < words; i += step_of(words, wanted)) add(group, name, base, i * kWordBytes, kWordBytes);
  }

  void add_headers() {
    Elf64_Ehdr header;
    if (file_.size() < sizeof header) return;
    std::memcpy(&header, file_.data(), sizeof header);
    add_at(Group::kHeaders, "Elf64_Ehdr.e_ident", 4, 0, 4);
#define FIELD(type, base, name) \
  add_at(Group::kHeaders, #type "." #name, (base) + offsetof(type, name), 0, sizeof(type::name))
    FIELD(Elf64_Ehdr, 0, e_type);
    FIELD(Elf64_Ehdr, 0, e_machine);
    FIELD(Elf64_Ehdr, 0, e_version);
    FIELD(Elf64_Ehdr, 0, e_phoff);
    FIELD(Elf64_Ehdr, 0, e_shoff);
    FIELD(Elf64_Ehdr, 0, e_ehsize);
    FIELD(Elf64_Ehdr, 0, e_phentsize);
    FIELD(Elf64_Ehdr, 0, e_phnum);
    FIELD(Elf64_Ehdr, 0, e_shentsize);
    FIELD(Elf64_Ehdr, 0, e_shnum);
    FIELD(Elf64_Ehdr, 0, e_shstrndx);
    for (std::size_t i = 0; i < header.e_phnum; ++i) {
      const std::uint64_t at = header.e_phoff + i * sizeof(Elf64_Phdr);
      Elf64_Phdr segment;
      if (at + sizeof segment > file_.size()) return;
      std::memcpy(&segment, file_.data() + at, sizeof segment);
      FIELD(Elf64_Phdr, at, p_type);
      FIELD(Elf64_Phdr, at, p_flags);
      FIELD(Elf64_Phdr, at, p_offset);
      FIELD(Elf64_Phdr, at, p_vaddr);
      FIELD(Elf64_Phdr, at, p_filesz);
      FIELD(Elf64_Phdr, at, p_memsz);
      FIELD(Elf64_Phdr, at, p_align);
      if (segment.p_type == PT_NOTE) add_notes(segment.p_offset, segment.p_filesz);
    }
#undef FIELD
  }

  void add_notes(std::uint64_t at, std::uint64_t bytes) {
    const std::uint64_t end = std::min<std::uint64_t>(file_.size(), at + bytes);
    while (at + sizeof(Elf64_Nhdr) <= end) {
      Elf64_Nhdr note;
      std::memcpy(&note, file_.data() + at, sizeof note);
      const std::string name = "note " + std::to_string(note.n_type);
      add_at(Group::kHeaders, name + ".n_namesz", at, 0, 4);
      add_at(Group::kHeaders, name + ".n_descsz", at + 4, 0, 4);
      add_at(Group::kHeaders, name + ".n_type", at + 8, 0, 4);
      at += sizeof note + align_up(note.n_namesz, 4);
      for (std::uint64_t i = 0; i + 8 <= note.n_descsz && i < 512; i += 8)
        add_at(Group::kHeaders, name + " words", at + i, 0, 8);
      at += align_up(note.n_descsz, 4);
    }
  }

  // What the loaded files' own headers, dynamic sections and variables say.
  void add_modules() {
    for (const Module& module : process_.snapshot.modules) {
      add_words(Group::kModules, "header of a module", module.range.start, 1024, 32);
      Elf64_Ehdr header;
      if (!reader_.try_load(module.range.start, header)) continue;
      for (std::size_t i = 0; i < std::min<std::size_t>(header.e_phnum, 16); ++i) {
        Elf64_Phdr segment;
        if (!reader_.try_load(module.range.start + header.e_phoff + i * sizeof segment, segment)) break;
        if (segment.p_type == PT_DYNAMIC)
          add_words(Group::kModules, "dynamic section", module.load_bias + segment.p_vaddr, segment.p_memsz, 32);
        if (segment.p_type == PT_NOTE)
          add_words(Group::kModules, "note of a module", module.load_bias + segment.p_vaddr, segment.p_memsz, 8);
      }
      for (const AddrRange& range : process_.snapshot.variables_of(module))
        add_words(Group::kModules, "variables of " + std::string(module.name()), range.start, range.size_bytes(), 48);
    }
  }

  void add_malloc() {
    const Heap& heap = *process_.heap();
    if (heap.par.address != 0) add_struct(Group::kMalloc, "malloc_par", heap.par.address);
    for (const Arena& arena : heap.arenas) {
      add_struct(Group::kMalloc, "malloc_state", arena.address, arena.is_main ? " (main)" : " (thread)");
      if (arena.is_main) continue;
      for (const AddrRange& part : arena.heaps) add_struct(Group::kMalloc, "_heap_info", part.start);
    }
    for (const Tcache& tcache : heap.tcaches) add_struct(Group::kMalloc, "tcache_perthread_struct", tcache.address);
    for (const MmappedChunk& chunk : heap.mmapped)
      add_struct(Group::kMalloc, "malloc_chunk", chunk.address, " (mmapped)");
    static constexpr const char* kStates[] = {" (in use)", " (tcache)", " (fastbin)", " (unsorted)",
                                              " (small)",  " (large)",  " (top)"};
    Findings ignored;
    std::map<std::pair<std::uint32_t, ChunkState>, std::uint64_t> seen;
    for (const Region& region : heap.regions) {
      for_each_chunk(heap, reader_, region, ignored, [&](const Chunk& chunk) {
        // Some of each state of each arena, more and more sparsely.
        const std::uint64_t nth = seen[{region.arena, chunk.state}]++;
        if ((nth & (nth - 1)) != 0 && nth % 257 != 0) return;
        const std::string state = kStates[static_cast<std::size_t>(chunk.state)];
        add_struct(Group::kMalloc, "malloc_chunk", chunk.address, state);
        if (chunk.state == ChunkState::kTcache) add_struct(Group::kMalloc, "tcache_entry", chunk.user_address());
      });
    }
  }

  void add_python() {
    const PyRuntime& runtime = *process_.runtime();
    add_obmalloc(runtime);
    add_mimalloc(runtime);
    if (runtime.state != 0) {
      add_struct(Group::kRuntime, "_PyRuntimeState", runtime.state);
      add_struct(Group::kRuntime, "_Py_DebugOffsets", runtime.state);
      add_words(Group::kRuntime, "the beginning of _PyRuntime", runtime.state, 1024, 48);
    }
    for (const NumberBlockList& list : runtime.number_blocks) add_struct(Group::kObmalloc, "_intblock", list.first);
    for (const Interpreter& interpreter : runtime.interpreters) {
      add_struct(Group::kRuntime, "PyInterpreterState", interpreter.address);
      for (const Addr thread : thread_states(reader_, runtime, interpreter)) {
        add_struct(Group::kRuntime, "PyThreadState", thread);
        add_struct(Group::kRuntime, "_PyThreadStateImpl", thread);
        if (frames_are_objects(runtime.traits)) continue;
        for (const Addr frame : frames_of_thread(reader_, runtime.traits, thread)) {
          add_struct(Group::kRuntime, "_PyInterpreterFrame", frame);
          add_words(Group::kRuntime, "locals of a frame", frame, 256, 16);
        }
      }
    }
    add_objects();
  }

  void add_obmalloc(const PyRuntime& runtime) {
    Findings ignored;
    const PyTraits& traits = runtime.traits;
    if (runtime.arenas) {
      for (std::uint32_t i = 0; i < std::min(runtime.arenas->count, 32U); ++i)
        add_struct(Group::kObmalloc, "arena_object",
                   runtime.arenas->address + i * traits.layout->arena_object.size_bytes);
    }
    std::size_t pools = 0;
    for (const PyArena& arena : read_arenas(reader_, runtime, ignored)) {
      for (Addr at = arena.first_pool; at < arena.carved_end; at += traits.pool_bytes) {
        add_struct(Group::kObmalloc, "pool_header", at);
        const std::span<const std::byte> bytes = reader_.span(at, traits.pool_bytes);
        PoolHeader pool;
        if (bytes.empty() || !read_pool(bytes, at, arena, traits, pool, ignored) || pool.freeblock == 0) continue;
        if (pools++ % 4 == 0) add(Group::kObmalloc, "link of a free block", pool.freeblock, 0, kWordBytes);
      }
    }
  }

  void add_mimalloc(const PyRuntime& runtime) {
    if (!runtime.mimalloc) return;
    Findings ignored;
    for (const Addr heap : runtime.mimalloc->heaps) add_struct(Group::kObmalloc, "mi_heap_s", heap);
    for (const MiSegment& segment : read_mi_segments(reader_, runtime, ignored)) {
      add_struct(Group::kObmalloc, "mi_segment_s", segment.address);
      for (const MiPage& page : segment.pages) {
        add_struct(Group::kObmalloc, "mi_page_s", page.address);
        for (const Addr free : {page.free, page.local_free, page.thread_free})
          if (free != 0) add(Group::kObmalloc, "link of a free block", free, 0, kWordBytes);
      }
    }
  }

  void add_objects() {
    Findings ignored;
    BlockTable blocks;
    const Census census = take_census(process_, Progress::none(), ignored, &blocks);
    for (TypeId id = 0; id < census.types->size(); ++id) {
      const Addr type = census.types->info(id).address;
      add_struct(Group::kTypes, "PyTypeObject", type);
      if (census.types->info(id).is_heap_type) add_struct(Group::kTypes, "PyHeapTypeObject", type);
    }
    std::vector<std::vector<BlockId>> of_type(census.types->size());
    for (BlockId id = 0; id < blocks.objects(); ++id) of_type[blocks.type(id)].push_back(id);
    for (TypeId id = 0; id < of_type.size(); ++id) {
      const TypeInfo& info = census.types->info(id);
      const std::vector<BlockId>& objects = of_type[id];
      for (std::size_t i = 0; i < objects.size(); i += step_of(objects.size(), kObjectsPerType))
        add_object(blocks, info, blocks.address(objects[i]), blocks.bytes(objects[i]));
      if (!objects.empty()) sites_.objects.push_back(blocks.address(objects[objects.size() / 2]));
    }
  }

  void add_object(const BlockTable& blocks, const TypeInfo& info, Addr object, std::uint64_t block_bytes) {
    const Group group = info.kind == Kind::kType ? Group::kTypes : Group::kObjects;
    const std::string tag = info.row != nullptr ? structure_name(info.row->struct_id) : "PyObject";
    const std::string of = " (" + std::string(kind_name(info.kind)) + ")";
    add_struct(group, "PyObject", object, of);
    if (info.has_gc() && process_.runtime()->traits.gc_head_bytes() != 0)
      add_struct(group, "PyGC_Head", object - process_.runtime()->traits.gc_head_bytes(), of);
    if (info.itemsize != 0) add_struct(group, "PyVarObject", object, of);
    if (tag != "PyObject") add_struct(group, tag, object);
    if (info.kind == Kind::kStr) add_struct(group, "PyCompactUnicodeObject", object);
    if (info.kind == Kind::kInstance || info.row == nullptr)
      add_words(group, "words" + of, object - info.header_bytes, block_bytes, 8);
    add_contents(blocks, tag, info, object);
  }

  // The raw blocks that words of an object lead to, by the name of the field that does.
  void add_contents(const BlockTable& blocks, const std::string& tag, const TypeInfo& info, Addr object) {
    const auto follow = [&](const std::string& name, Addr address) {
      const BlockId raw = blocks.find_raw(address);
      if (raw == kNoBlock) return;
      const bool is_keys = name.ends_with("ma_keys") || name.ends_with("ht_cached_keys");
      if (is_keys) add_struct(Group::kContents, "PyDictKeysObject", address);
      add_words(Group::kContents, name + ">", address, std::min<std::uint64_t>(blocks.bytes(raw), 64), 8);
      add_words(Group::kContents, name + "> all", address, blocks.bytes(raw), 8);
    };
    const auto follow_field = [&](const std::string& structure, const NamedField& field) {
      const std::optional<Addr> to = reader_.load<Addr>(object + field.place.offset);
      if (to) follow(structure + "." + field.name, *to);
    };
    for (const NamedField& field : fields_[tag])
      if (field.place.width_bytes == kWordBytes) follow_field(tag, field);
    if (!info.has_gc()) return;
    // What lies before the object: the values of an instance (3.11, 3.12), or its dict.
    for (std::uint64_t back = kWordBytes; back <= info.header_bytes; back += kWordBytes) {
      const std::optional<Addr> to = reader_.load<Addr>(object - back);
      if (to) follow("pre-header", align_down(*to, 2));
    }
  }

  void add_pages() {
    for (const Segment& segment : process_.snapshot.space.segments()) {
      const Mapping* mapping = process_.snapshot.mapping_at(segment.start);
      const bool of_core =
          segment.bytes != nullptr && segment.bytes >= file_.data() && segment.bytes < file_.data() + file_.size();
      if (!of_core || mapping == nullptr || !mapping->writable) continue;
      sites_.heap.push_back({segment.start, segment.end});
      for (Addr page = align_up(segment.start, kPageBytes); page + kPageBytes <= segment.end; page += kPageBytes) {
        std::vector<Place>& places = found_[static_cast<std::size_t>(Group::kPages)]["page"];
        places.push_back(
            {static_cast<std::uint64_t>(segment.bytes - file_.data()) + (page - segment.start), page, kPageBytes});
      }
    }
  }

  std::span<const std::byte> file_;
  Process& process_;
  Reader reader_;
  std::map<std::string, std::vector<NamedField>> fields_;
  std::map<std::string, std::vector<Place>> found_[std::size(kGroups)];
  Sites sites_;
};

}  // namespace

const char* group_name(Group group) {
  switch (group) {
    case Group::kHeaders:
      return "the core's headers and notes";
    case Group::kModules:
      return "loaded files: headers, variables";
    case Group::kMalloc:
      return "glibc's arenas, chunks, lists";
    case Group::kObmalloc:
      return "obmalloc and mimalloc";
    case Group::kRuntime:
      return "interpreters, threads, frames";
    case Group::kTypes:
      return "types";
    case Group::kObjects:
      return "fields of objects";
    case Group::kContents:
      return "tables, items, buffers of objects";
    case Group::kPages:
      return "whole pages";
  }
  return "";
}

Sites find_sites(std::span<const std::byte> file, Process& process) {
  return Finder(file, process).run();
}

}  // namespace heapcore::damage

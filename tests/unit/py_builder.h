// Synthesises a process with a CPython 3.11 in it: the interpreter's module with its exported symbols, types, an
// interpreter's state with the collector's rings, obmalloc's arenas, and whatever objects a test puts into them. malloc
// is FakeProcess's. Tests then damage the bytes as they please.
//
// It writes what CPython would have written, from the same layout tables that are under test but from none of the code.
#pragma once

#include <elf.h>

#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "analysis/process.h"
#include "glibc_heap_builder.h"
#include "pyobj/runtime.h"

namespace heapcore::testing {

constexpr std::uint64_t kArenaBytes = 1 << 20;
constexpr std::uint64_t kPoolBytes = 16 << 10;
constexpr std::uint64_t kPoolHeaderBytes = 48;
constexpr Addr kPieBase = 0x560000000000;
constexpr Addr kLowBase = 0x400000;  // of a program that is not position-independent
constexpr Addr kFirstArena = 0x7f8000000000;
constexpr Addr kArenaTable = 0x7f9000000000;
constexpr std::uint32_t kMaxArenaObjects = 16;

// What a static or heap type says of itself.
struct TypeSpec {
  std::string name;
  std::uint64_t basicsize = 16;
  std::uint64_t itemsize = 0;
  std::uint64_t flags = 0;  // besides READY
  Addr base = 0;
  Addr metatype = 0;  // 0: `type`
};

enum class Keys : std::uint8_t { kGeneral = 0, kUnicode = 1, kSplit = 2 };

class FakePython : public FakeProcess {
 public:
  // With `as`, everything is written as a build would that has its fields there.
  explicit FakePython(Addr base = kPieBase, const PyLayout* as = nullptr) : base_(base), data_(base + kElfBytes) {
    traits_ = *traits_for({0x030b07f0, true});
    if (as != nullptr) traits_.layout = as;
    add_memory(base, kModuleBytes, kPath);
    add_memory(kArenaTable, kMaxArenaObjects * layout().arena_object.size_bytes, "");
    for (std::uint32_t i = 0; i < kMaxArenaObjects; ++i) {
      put(arena_object(i) + layout().arena_object.nextarena.offset, i + 1 < kMaxArenaObjects ? arena_object(i + 1) : 0);
    }
    make_types();
    runtime_state_ = data(layout()._PyRuntimeState.size_bytes);
    arenas_variable_ = data(8);
    put(arenas_variable_, kArenaTable);
    maxarenas_variable_ = data(8);
    put(maxarenas_variable_, kMaxArenaObjects);
    const Addr version = data(8);
    put(version, 0x030b07f0);
    symbol("Py_Version", version);
    symbol("_PyRuntime", runtime_state_);
    symbol("PyType_Type", type_type);
    symbol("arenas", arenas_variable_);
    symbol("maxarenas", maxarenas_variable_);
    interpreter = add_interpreter(0);
  }

  const PyLayout& layout() const { return *traits_.layout; }
  const PyTraits& py_traits() const { return traits_; }
  PyTraits& py_traits() { return traits_; }
  Addr base() const { return base_; }
  Addr runtime_state() const { return runtime_state_; }

  // Static memory of the interpreter's module.
  Addr data(std::uint64_t bytes) {
    const Addr at = data_;
    data_ = align_up(data_ + bytes, 16);
    return at;
  }
  Addr c_text(const std::string& text) {
    const Addr at = data(text.size() + 1);
    write(at, text);
    return at;
  }
  void write(Addr at, std::string_view bytes) {
    for (std::size_t i = 0; i < bytes.size(); ++i) byte(at + i) = static_cast<unsigned char>(bytes[i]);
  }
  void symbol(const std::string& name, Addr address) {
    remove_symbol(name);
    symbols_.emplace_back(name, address);
  }
  void remove_symbol(const std::string& name) {
    std::erase_if(symbols_, [&](const auto& symbol) { return symbol.first == name; });
  }
  void remove_all_symbols() { symbols_.clear(); }
  // Bytes that the snapshot is to lack.
  void lose(AddrRange range) { lost_.push_back(range); }

  // ---- Objects, at an address of the test's choice.

  void head(Addr object, Addr type, std::uint64_t refcnt = 1) {
    put(object + layout().PyObject.ob_refcnt.offset, refcnt);
    put(object + layout().PyObject.ob_type.offset, type);
  }
  void type_at(Addr at, const TypeSpec& spec) {
    const auto& fields = layout().PyTypeObject;
    head(at, spec.metatype == 0 ? type_type : spec.metatype);
    put(at + fields.tp_name.offset, spec.name.empty() ? 0 : c_text(spec.name));
    put(at + fields.tp_basicsize.offset, spec.basicsize);
    put(at + fields.tp_itemsize.offset, spec.itemsize);
    put(at + fields.tp_flags.offset, spec.flags | tp_flag::kReady);
    put(at + fields.tp_base.offset, spec.base);
  }
  Addr static_type(const TypeSpec& spec) {
    const Addr at = data(layout().PyTypeObject.size_bytes);
    type_at(at, spec);
    return at;
  }
  // A class of Python's, in static memory for want of a better place. `qualname` or `module_name` empty: it has none.
  Addr heap_type(TypeSpec spec, const std::string& qualname, const std::string& module_name) {
    const Addr at = data(16 + layout().PyHeapTypeObject.size_bytes) + 16;
    spec.flags |= tp_flag::kHeapType;
    type_at(at, spec);
    put(at + layout().PyHeapTypeObject.ht_qualname.offset, qualname.empty() ? 0 : ascii(qualname));
    const Addr names = module_name.empty()
                           ? dict({{ascii("__doc__"), ascii("text")}})
                           : dict({{ascii("__doc__"), ascii("text")}, {ascii("__module__"), ascii(module_name)}});
    put(at + layout().PyTypeObject.tp_dict.offset, names);
    return at;
  }

  // PyASCIIObject.state: interned 2 bits, kind 3, compact 1, ascii 1, ready 1.
  static constexpr std::uint32_t str_state(unsigned kind, bool compact, bool is_ascii) {
    return kind << 2 | static_cast<unsigned>(compact) << 5 | static_cast<unsigned>(is_ascii) << 6 | 1 << 7;
  }
  void ascii_at(Addr at, const std::string& text) {
    str_head(at, text.size(), str_state(1, true, true));
    write(at + layout().PyASCIIObject.size_bytes, text);
  }
  Addr ascii(const std::string& text) {
    const Addr at = data(layout().PyASCIIObject.size_bytes + text.size() + 1);
    ascii_at(at, text);
    return at;
  }
  // A str of `kind` bytes a character that is not ASCII; compact, or with its characters elsewhere.
  Addr wide_str(const std::vector<std::uint32_t>& text, unsigned kind, bool compact = true) {
    const std::uint64_t fixed =
        compact ? layout().PyCompactUnicodeObject.size_bytes : layout().PyUnicodeObject.size_bytes;
    const Addr at = data(fixed + (compact ? (text.size() + 1) * kind : 0));
    const Addr characters = compact ? at + fixed : data((text.size() + 1) * kind);
    str_head(at, text.size(), str_state(kind, compact, false));
    if (!compact) put(at + layout().PyUnicodeObject.data.offset, characters);
    for (std::size_t i = 0; i < text.size(); ++i) {
      for (unsigned b = 0; b < kind; ++b)
        byte(characters + i * kind + b) = static_cast<unsigned char>(text[i] >> 8 * b);
    }
    return at;
  }

  using Entries = std::vector<std::pair<Addr, Addr>>;  // key and value; a key of 0 is a deleted entry
  Addr dict_keys(const Entries& entries, Keys kind, std::uint64_t refcnt = 1) {
    const auto& fields = layout().PyDictKeysObject;
    unsigned log2_size = 3;
    while ((std::uint64_t{1} << log2_size) * 2 / 3 < entries.size()) ++log2_size;
    const unsigned log2_index_bytes = log2_size < 8 ? log2_size : log2_size + 1;
    const std::uint64_t capacity = (std::uint64_t{1} << log2_size) * 2 / 3;
    const std::uint64_t entry_bytes = kind == Keys::kGeneral ? 24 : 16;
    const Addr at = data(fields.dk_indices.offset + (std::uint64_t{1} << log2_index_bytes) + capacity * entry_bytes);
    put(at + fields.dk_refcnt.offset, refcnt);
    byte(at + fields.dk_log2_size.offset) = static_cast<unsigned char>(log2_size);
    byte(at + fields.dk_log2_index_bytes.offset) = static_cast<unsigned char>(log2_index_bytes);
    byte(at + fields.dk_kind.offset) = static_cast<unsigned char>(kind);
    put(at + fields.dk_usable.offset, capacity - entries.size());
    put(at + fields.dk_nentries.offset, entries.size());
    Addr entry = at + fields.dk_indices.offset + (std::uint64_t{1} << log2_index_bytes);
    for (const auto& [key, value] : entries) {
      if (kind == Keys::kGeneral) put(entry, 0x1234);  // the hash
      const Addr words = kind == Keys::kGeneral ? entry + 8 : entry;
      put(words, key);
      put(words + 8, kind == Keys::kSplit ? 0 : value);
      entry += entry_bytes;
    }
    return at;
  }
  void dict_at(Addr at, const Entries& entries, Keys kind) {
    const auto& fields = layout().PyDictObject;
    head(at, dict_type);
    put(at + fields.ma_used.offset, entries.size());
    put(at + fields.ma_keys.offset, dict_keys(entries, kind));
    if (kind != Keys::kSplit) return;
    const Addr values = data(8 * entries.size() + 16) + 16;
    for (std::size_t i = 0; i < entries.size(); ++i) put(values + 8 * i, entries[i].second);
    put(at + fields.ma_values.offset, values);
  }
  Addr dict(const Entries& entries, Keys kind = Keys::kUnicode) {
    const Addr at = data(16 + layout().PyDictObject.size_bytes) + 16;
    dict_at(at, entries, kind);
    return at;
  }

  // ---- The collector's rings. A node is a PyGC_Head's address.

  Addr generation(unsigned i) const {
    return interpreter + layout().PyInterpreterState.gc_generations.offset + i * layout().gc_generation.size_bytes;
  }
  Addr permanent() const { return interpreter + layout().PyInterpreterState.gc_permanent_generation.offset; }
  void track(Addr node, Addr ring) {
    const auto& fields = layout().PyGC_Head;
    const Addr last = get(ring + fields._gc_prev.offset);
    put(last + fields._gc_next.offset, node);
    put(node + fields._gc_prev.offset, last);
    put(node + fields._gc_next.offset, ring);
    put(ring + fields._gc_prev.offset, node);
  }

  // ---- obmalloc.

  Addr arena_object(std::uint32_t index) const { return kArenaTable + index * layout().arena_object.size_bytes; }
  // An arena at `address` under the lowest unused index; its memory is added too.
  std::uint32_t arena(Addr address) {
    const std::uint32_t index = arenas_++;
    const Addr at = arena_object(index);
    const auto& fields = layout().arena_object;
    const auto pools = static_cast<std::uint32_t>(address % kPoolBytes == 0 ? 64 : 63);
    add_memory(address, kArenaBytes, "");
    put(at + fields.address.offset, address);
    put(at + fields.pool_address.offset, align_up(address, kPoolBytes));
    put32(at + fields.nfreepools.offset, pools);
    put32(at + fields.ntotalpools.offset, pools);
    put(at + fields.nextarena.offset, 0);
    return index;
  }
  // Carves the arena's next pool for blocks of one size.
  Addr pool(std::uint32_t arena_index, std::uint32_t block_bytes) {
    const auto& arena_fields = layout().arena_object;
    const Addr at = arena_object(arena_index);
    const Addr pool = get(at + arena_fields.pool_address.offset);
    put(at + arena_fields.pool_address.offset, pool + kPoolBytes);
    add32(at + arena_fields.nfreepools.offset, -1);
    const auto& fields = layout().pool_header;
    put32(pool + fields.arenaindex.offset, arena_index);
    put32(pool + fields.szidx.offset, block_bytes / 16 - 1);
    put32(pool + fields.nextoffset.offset, kPoolHeaderBytes);
    put32(pool + fields.maxnextoffset.offset, static_cast<std::uint32_t>(kPoolBytes) - block_bytes);
    return pool;
  }
  std::uint32_t block_bytes(Addr pool) {
    return static_cast<std::uint32_t>(kPoolBytes) - u32(pool + layout().pool_header.maxnextoffset.offset);
  }
  // Carves the pool's next block.
  Addr block(Addr pool) {
    const auto& fields = layout().pool_header;
    const Addr at = pool + u32(pool + fields.nextoffset.offset);
    add32(pool + fields.nextoffset.offset, static_cast<int>(block_bytes(pool)));
    add32(pool + fields.ref_count.offset, 1);
    return at;
  }
  void free_block(Addr pool, Addr block) {
    const auto& fields = layout().pool_header;
    put(block, get(pool + fields.freeblock.offset));
    put(pool + fields.freeblock.offset, block);
    add32(pool + fields.ref_count.offset, -1);
  }
  // Makes a pool free that has no block in use any more.
  void free_pool(std::uint32_t arena_index, Addr pool) {
    put32(pool + layout().pool_header.ref_count.offset, 0);
    add32(arena_object(arena_index) + layout().arena_object.nfreepools.offset, 1);
  }

  // ---- What the analysis starts from.

  Addr add_interpreter(std::int64_t id) {
    const Addr at = data(layout().PyInterpreterState.size_bytes);
    const Addr thread = data(layout().PyThreadState.size_bytes);
    const auto& fields = layout().PyInterpreterState;
    put(at + fields.id.offset, static_cast<std::uint64_t>(id));
    put(at + fields.threads_head.offset, thread);
    put(thread + layout().PyThreadState.interp.offset, at);
    put32(at + fields.gc_enabled.offset, 1);
    for (const Field& field : {fields.sysdict, fields.builtins}) put(at + field.offset, dict({}));
    for (unsigned i = 0; i < 4; ++i) {
      const Addr ring = i < 3 ? at + fields.gc_generations.offset + i * layout().gc_generation.size_bytes
                              : at + fields.gc_permanent_generation.offset;
      put(ring, ring);
      put(ring + 8, ring);
    }
    const Addr head_at = runtime_state_ + layout()._PyRuntimeState.interpreters_head.offset;
    put(at + fields.next.offset, get(head_at));
    put(head_at, at);
    if (id == 0) put(runtime_state_ + layout()._PyRuntimeState.interpreters_main.offset, at);
    return at;
  }

  PyRuntime runtime() const {
    PyRuntime runtime;
    runtime.traits = traits_;
    runtime.module_path = kPath;
    runtime.located_by = "test";
    runtime.type_type = type_type;
    runtime.interpreters.push_back({interpreter, 0, true, false});
    if (arenas_ != 0) runtime.arenas = ArenaTable{kArenaTable, kMaxArenaObjects, "test"};
    return runtime;
  }

  // The FakePython must outlive it.
  Snapshot snapshot() {
    write_symbols();
    Snapshot out = FakeProcess::snapshot();
    std::vector<Segment> segments;
    for (const Segment& whole : out.space.segments()) add_segment(whole, segments);
    out.space.assign(std::move(segments));
    Module python;
    python.path = kPath;
    python.range = {base_, base_ + kModuleBytes};
    python.load_bias = base_;
    python.is_executable = true;
    out.modules.insert(out.modules.begin(), python);
    for (Mapping& mapping : out.mappings) {
      for (const AddrRange& range : lost_) {
        const Addr start = std::max(range.start, mapping.start);
        const Addr end = std::min(range.end, mapping.end);
        if (start < end) mapping.not_dumped_bytes += end - start;
      }
    }
    return out;
  }

  // The process, its runtime given rather than searched for; malloc is left out.
  Process process() {
    Process process;
    process.snapshot = snapshot();
    process.python.version = "3.11.7";
    process.python.runtime = runtime();
    return process;
  }

  std::uint32_t u32(Addr address) { return static_cast<std::uint32_t>(get(address)); }

  Addr type_type = 0;
  Addr object_type = 0;
  Addr int_type = 0;
  Addr float_type = 0;
  Addr str_type = 0;
  Addr bytes_type = 0;
  Addr tuple_type = 0;
  Addr list_type = 0;
  Addr dict_type = 0;
  Addr set_type = 0;
  Addr node_type = 0;     // a Python class: managed dict, so with a pre-header
  Addr slotted_type = 0;  // a Python class with __slots__: collected, without a pre-header
  Addr interpreter = 0;

  static constexpr const char* kPath = "/usr/bin/python3.11";
  static constexpr std::uint64_t kModuleBytes = 2 << 20;

 private:
  static constexpr std::uint64_t kElfBytes = 0x4000;

  void make_types() {
    using namespace tp_flag;  // NOLINT(google-build-using-namespace)
    type_type = data(layout().PyTypeObject.size_bytes);
    type_at(type_type, {"type", 408, 40, kTypeSubclass | kHaveGc});
    object_type = static_type({"object", 16});
    put(type_type + layout().PyTypeObject.tp_base.offset, object_type);
    int_type = static_type({"int", 24, 4, kLongSubclass, object_type});
    float_type = static_type({"float", 24, 0, 0, object_type});
    str_type = static_type({"str", 80, 0, kUnicodeSubclass, object_type});
    bytes_type = static_type({"bytes", 33, 1, kBytesSubclass, object_type});
    tuple_type = static_type({"tuple", 24, 8, kTupleSubclass | kHaveGc, object_type});
    list_type = static_type({"list", 40, 0, kListSubclass | kHaveGc, object_type});
    dict_type = static_type({"dict", 48, 0, kDictSubclass | kHaveGc, object_type});
    set_type = static_type({"set", 200, 0, kHaveGc, object_type});
    node_type = heap_type({"Node", 24, 0, kHaveGc | kManagedDict, object_type}, "Node", "__main__");
    slotted_type = heap_type({"Slotted", 32, 0, kHaveGc, object_type}, "Slotted", "app.model");
  }

  void str_head(Addr at, std::uint64_t length, std::uint32_t state) {
    head(at, str_type);
    put(at + layout().PyASCIIObject.length.offset, length);
    put32(at + layout().PyASCIIObject.state.offset, state);
  }

  void add32(Addr address, int n) { put32(address, u32(address) + static_cast<std::uint32_t>(n)); }

  void add_segment(const Segment& whole, std::vector<Segment>& segments) const {
    std::vector<Segment> parts = {whole};
    for (const AddrRange& range : lost_) {
      std::vector<Segment> cut;
      for (const Segment& part : parts) {
        const Addr start = std::max(range.start, part.start);
        const Addr end = std::min(range.end, part.end);
        if (start >= end || part.bytes == nullptr) {
          cut.push_back(part);
          continue;
        }
        if (part.start < start) cut.push_back({part.start, start, part.bytes, part.state, false});
        cut.push_back({start, end, nullptr, ByteState::kNotDumped, false});
        if (end < part.end) cut.push_back({end, part.end, part.bytes + (end - part.start), part.state, false});
      }
      parts = std::move(cut);
    }
    segments.insert(segments.end(), parts.begin(), parts.end());
  }

  template <typename T>
  void put_struct(Addr at, const T& value) {
    write(at, {reinterpret_cast<const char*>(&value), sizeof value});
  }

  // The module's ELF header, dynamic section and dynamic symbols, as its memory would hold them.
  void write_symbols() {
    constexpr Addr kDynamic = 0x400;
    constexpr Addr kHash = 0x800;
    constexpr Addr kSymbols = 0x1000;
    constexpr Addr kStrings = 0x2000;
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_machine = EM_X86_64;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 2;
    put_struct(base_, header);
    Elf64_Phdr load{};
    load.p_type = PT_LOAD;
    load.p_memsz = load.p_filesz = kModuleBytes;
    put_struct(base_ + sizeof header, load);
    Elf64_Phdr dynamic{};
    dynamic.p_type = PT_DYNAMIC;
    dynamic.p_vaddr = kDynamic;
    dynamic.p_memsz = 4 * sizeof(Elf64_Dyn);
    put_struct(base_ + sizeof header + sizeof load, dynamic);
    const std::pair<std::int64_t, Addr> entries[] = {
        {DT_GNU_HASH, base_ + kHash}, {DT_SYMTAB, base_ + kSymbols}, {DT_STRTAB, base_ + kStrings}, {DT_NULL, 0}};
    for (std::size_t i = 0; i < 4; ++i) {
      Elf64_Dyn entry{};
      entry.d_tag = entries[i].first;
      entry.d_un.d_ptr = entries[i].second;
      put_struct(base_ + kDynamic + i * sizeof entry, entry);
    }
    // One bucket, symbols from index 1 on, one word of bloom filter.
    put32(base_ + kHash, 1);
    put32(base_ + kHash + 4, 1);
    put32(base_ + kHash + 8, 1);
    put32(base_ + kHash + 24, symbols_.empty() ? 0 : 1);
    Addr string = 1;
    for (std::size_t i = 0; i < symbols_.size(); ++i) {
      const auto& [name, address] = symbols_[i];
      std::uint32_t hash = 5381;
      for (const char c : name) hash = hash * 33 + static_cast<unsigned char>(c);
      put32(base_ + kHash + 28 + 4 * i, (hash & ~1U) | (i + 1 == symbols_.size() ? 1 : 0));
      Elf64_Sym entry{};
      entry.st_name = static_cast<Elf64_Word>(string);
      entry.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT);
      entry.st_shndx = 1;
      entry.st_value = address - base_;
      put_struct(base_ + kSymbols + (i + 1) * sizeof entry, entry);
      write(base_ + kStrings + string, name + '\0');
      string += name.size() + 1;
    }
  }

  PyTraits traits_;
  Addr base_;
  Addr data_;
  Addr runtime_state_ = 0;
  Addr arenas_variable_ = 0;
  Addr maxarenas_variable_ = 0;
  std::uint32_t arenas_ = 0;
  std::vector<std::pair<std::string, Addr>> symbols_;
  std::vector<AddrRange> lost_;
};

}  // namespace heapcore::testing

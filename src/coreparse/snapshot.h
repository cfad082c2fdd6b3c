// The target as it was at one moment: its memory, mappings, modules and threads. Nothing above this header knows
// whether it came from a core file or from a live process.
//
// Invariants: mappings are sorted and disjoint and cover exactly the segments of `space`; a Snapshot does not change
// once open_core() or open_process() has returned it. Bytes stay valid as long as the Snapshot lives; it may be moved.
//
// Does not: know malloc or Python.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "coreparse/address_space.h"
#include "coreparse/image.h"
#include "support/addr.h"
#include "support/finding.h"
#include "support/progress.h"
#include "support/result.h"

namespace heapcore {

// Where a target's files lie when they are not where the target saw them; and whether a live one may be stopped.
struct OpenOptions {
  std::string exe;      // --exe: stands for the main executable
  std::string sysroot;  // --sysroot: put before every path the target names, and before /usr/lib/debug
  bool stop = true;     // --no-stop: a live process runs on while it is read, and nothing fits for sure
};

enum class TargetKind : std::uint8_t { kCore, kProcess };

struct TargetInfo {
  TargetKind kind = TargetKind::kCore;
  std::string path;        // of the core; empty for a process
  std::int32_t pid = 0;    // 0 where the core does not say
  std::string executable;  // as the target names it
  std::string command;     // the beginning of its command line (a core keeps 80 bytes)
  std::string architecture;
  std::int32_t signal = 0;   // that ended it; 0 for none
  double pause_seconds = 0;  // how long a live target stood still
};

struct Mapping {
  Addr start = 0;
  Addr end = 0;
  std::uint64_t file_offset = 0;
  std::string path;  // a file's, or the kernel's name in brackets; empty for anonymous memory
  bool readable = false;
  bool writable = false;
  bool executable = false;
  bool shared = false;
  std::uint64_t not_dumped_bytes = 0;

  std::uint64_t size_bytes() const { return end - start; }
  bool is_file() const { return !path.empty() && path.front() == '/'; }
};

struct Thread {
  std::int32_t tid = 0;
  std::string name;  // empty where unknown
  Addr pc = 0;
  Addr sp = 0;
  Addr thread_pointer = 0;                    // fs_base on x86-64
  std::array<std::uint64_t, 27> user_regs{};  // struct user_regs_struct, as NT_PRSTATUS holds it
};

struct Symbol {
  Addr address = 0;  // in the target
  std::uint64_t size_bytes = 0;
};

// How a file on disk was found to be the one the target had mapped.
enum class FileMatch : std::uint8_t {
  kNone,            // no file is used
  kBuildId,         // same build-id
  kDynamicSection,  // no build-id in the core; the same .dynamic, entry by entry
};

// A pointer that the dynamic linker adds the load bias to: `place` holds `value`, both as addresses in the target.
struct RelativeRelocation {
  Addr place = 0;
  Addr value = 0;
};

class ElfFile;  // a module's file on disk, private to coreparse

// One loaded ELF file.
class Module {
 public:
  std::string path;    // as the target names it
  AddrRange range;     // from its first mapping to its last
  Addr image_end = 0;  // where its last segment ends, .bss included, rounded up to a page; 0 if its header is not there
  Addr load_bias = 0;
  std::vector<std::byte> build_id;  // from the target's memory; empty where that holds none
  bool is_executable = false;       // the main program
  FileMatch match = FileMatch::kNone;
  std::string file;        // the file in use; empty if none
  std::string debug_file;  // the separate debug file of this build-id on this machine's disk; empty if there is none
  std::string mismatch;    // why a file that was found is not used; empty if there was none or it matched

  std::string_view name() const;  // the path's last part
  std::string build_id_hex() const;

  // A symbol by exact name, from the memory's own .dynsym, the file's .dynsym and .symtab, or its separate debug file.
  // Symbols that are thread-local or undefined are not found. Not for hot paths; not thread-safe.
  std::optional<Symbol> symbol(std::string_view symbol_name, const AddressSpace& space) const;
  // "name+0x10" of the symbol that holds this address; empty if none does, or without the file. Not for hot paths.
  std::string symbol_at(Addr address) const;
  // Whether symbol() has any table to look in. If not, that a symbol is not found means nothing.
  bool tells_symbols(const AddressSpace& space) const;
  // The address range of a section (".data", ".PyRuntime") as the file on disk places it.
  std::optional<AddrRange> section(std::string_view section_name) const;

  // The relocations of the file on disk that set a pointer into the module itself, in the file's order; none without
  // it.
  std::vector<RelativeRelocation> relative_relocations() const;
  // What the file on disk says [address, address + n) held before anything ran; empty if it does not.
  std::span<const std::byte> initial_bytes(Addr address, std::uint64_t n) const;

  std::shared_ptr<ElfFile> elf;  // null when `file` is empty
};

struct Snapshot {
  TargetInfo info;
  AddressSpace space;
  std::vector<Mapping> mappings;
  std::vector<Module> modules;  // sorted by address
  std::vector<Thread> threads;  // the one that crashed, or the main one, first
  std::vector<std::pair<std::uint64_t, std::uint64_t>> auxv;
  Findings findings;
  std::vector<Image> storage;  // keeps the bytes of `space` alive

  const Module* module_at(Addr address) const;
  const Mapping* mapping_at(Addr address) const;
  const Module* executable() const;
  // The first module whose file name starts with `prefix` ("libc.so", "libpython").
  const Module* module_named(std::string_view prefix) const;
  std::uint64_t mapped_bytes() const;
  // The module's variables: its private writable mappings, and the anonymous one right behind them (.bss).
  std::vector<AddrRange> variables_of(const Module& module) const;
  // The module that has this mapping, or whose .bss it begins with; null if none.
  const Module* owner_of(const Mapping& mapping) const;
  // Whether a module's code, constants or variables lie there.
  bool is_static(Addr address) const;
};

Result<Snapshot> open_core(const std::string& path, const OpenOptions& options, Progress& progress);
Result<Snapshot> open_process(std::int32_t pid, const OpenOptions& options, Progress& progress);

}  // namespace heapcore

#include "coreparse/module_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "coreparse/memory_elf.h"

namespace heapcore {
namespace {

constexpr int kMaxLinkMaps = 10000;
constexpr std::size_t kMaxModules = 10000;
constexpr std::size_t kMaxPathBytes = 4096;

// Load bias -> path, from ld.so's list (struct link_map in link.h; the main program's own name is empty there).
std::map<Addr, std::string> read_link_maps(Reader& reader, Addr r_debug) {
  struct LinkMap {
    Addr l_addr, l_name, l_ld, l_next, l_prev;
  };
  std::map<Addr, std::string> paths;
  Addr at = 0;
  constexpr std::uint64_t kRMapOffset = 8;  // r_debug: int r_version; link_map* r_map
  if (!reader.try_load(r_debug + kRMapOffset, at)) return paths;
  for (int i = 0; at != 0 && i < kMaxLinkMaps; ++i) {
    const auto entry = reader.load<LinkMap>(at);
    if (!entry) break;
    const auto path = reader.c_string(entry->l_name, kMaxPathBytes);
    if (path && path->starts_with('/')) paths.try_emplace(entry->l_addr, *path);
    at = entry->l_next;
  }
  return paths;
}

// A library may have an interpreter too (Debian's libc.so.6 runs as a program): that tells only what has no other name.
std::string name_of(Reader& reader, const MemoryElf& elf, const std::map<Addr, std::string>& paths) {
  const auto path = paths.find(elf.load_bias);
  if (path != paths.end()) return path->second;
  const std::string unnamed = elf.has_interpreter ? kUnknownExecutable : "";
  if (!elf.dynamic.soname_offset) return unnamed;
  const auto soname = reader.c_string(elf.dynamic.strtab + *elf.dynamic.soname_offset, kMaxPathBytes);
  if (!soname || soname->empty()) return unnamed;
  return soname->starts_with("linux-vdso") ? "[vdso]" : fmt::format("[{}]", *soname);
}

using Unnamed = std::map<Addr, Mapping*>;  // by start

// Each mapping is named once, so that modules that lie one over another (in a hostile core) cost no more than others.
void name_mappings_of(Unnamed& unnamed, const MemoryElf& elf, const std::string& name) {
  for (const ElfLoad& load : elf.loads) {
    const Addr start = align_down(elf.load_bias + load.vaddr, 4096);
    const std::uint64_t size = load.file_bytes + load.vaddr % 4096;
    auto it = unnamed.lower_bound(start);
    while (it != unnamed.end() && it->first - start < size) {
      it->second->path = name;
      it->second->file_offset = align_down(load.offset, 4096) + (it->first - start);
      it = unnamed.erase(it);
    }
  }
}

}  // namespace

void name_mappings_from_memory(Snapshot& snapshot, std::uint16_t machine) {
  Reader reader(snapshot.space);
  std::vector<MemoryElf> found;
  Unnamed unnamed;
  for (Mapping& mapping : snapshot.mappings) {
    if (!mapping.path.empty()) continue;
    unnamed.emplace(mapping.start, &mapping);
    if (found.size() == kMaxModules) continue;
    if (auto elf = read_memory_elf(reader, mapping.start, machine)) found.push_back(std::move(*elf));
  }
  std::map<Addr, std::string> paths;
  for (const MemoryElf& elf : found) {
    if (elf.has_interpreter && elf.dynamic.r_debug != 0) paths = read_link_maps(reader, elf.dynamic.r_debug);
  }
  for (const MemoryElf& elf : found) {
    const std::string name = name_of(reader, elf, paths);
    if (!name.empty()) name_mappings_of(unnamed, elf, name);
  }
}

}  // namespace heapcore

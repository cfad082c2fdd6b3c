#include "coreparse/memory_elf.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

namespace heapcore {
namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint64_t kMaxNoteBytes = 64 * 1024;
constexpr std::uint64_t kMaxDynamicEntries = 1024;
constexpr std::uint64_t kMaxProgramHeaders = 64;  // real files have a dozen

MemoryDynamic read_dynamic(Reader& reader, const Elf64_Phdr& segment, Addr load_bias) {
  MemoryDynamic result;
  const std::uint64_t count = std::min<std::uint64_t>(segment.p_memsz / sizeof(Elf64_Dyn), kMaxDynamicEntries);
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto entry = reader.load<Elf64_Dyn>(load_bias + segment.p_vaddr + i * sizeof(Elf64_Dyn));
    if (!entry || entry->d_tag == DT_NULL) break;
    // ld.so adds the load bias to these in place on x86-64; what it has not touched is relative to it still.
    const Addr value = entry->d_un.d_ptr;
    const Addr address = value < load_bias ? value + load_bias : value;
    switch (entry->d_tag) {
      case DT_GNU_HASH:
        result.gnu_hash = address;
        break;
      case DT_SYMTAB:
        result.symtab = address;
        break;
      case DT_STRTAB:
        result.strtab = address;
        break;
      case DT_DEBUG:
        result.r_debug = value;
        break;
      case DT_SONAME:
        result.soname_offset = value;
        break;
      default:
        break;
    }
  }
  return result;
}

}  // namespace

std::optional<MemoryElf> read_memory_elf(Reader& reader, Addr base, std::uint16_t machine) {
  const auto header = reader.load<Elf64_Ehdr>(base);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_machine != machine ||
      header->e_phentsize != sizeof(Elf64_Phdr)) {
    return std::nullopt;
  }
  std::vector<Elf64_Phdr> segments;
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(header->e_phnum, kMaxProgramHeaders); ++i) {
    const auto segment = reader.load<Elf64_Phdr>(base + header->e_phoff + i * sizeof(Elf64_Phdr));
    if (!segment) break;
    segments.push_back(*segment);
  }
  MemoryElf result;
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type != PT_LOAD) continue;
    result.loads.push_back({segment.p_vaddr, segment.p_offset, segment.p_filesz, segment.p_memsz,
                            (segment.p_flags & PF_R) != 0, (segment.p_flags & PF_W) != 0,
                            (segment.p_flags & PF_X) != 0});
  }
  if (result.loads.empty()) return std::nullopt;
  result.load_bias = base - align_down(result.loads.front().vaddr, kPageBytes);
  for (const ElfLoad& load : result.loads) {
    const auto end = checked_add(result.load_bias + load.vaddr, load.memory_bytes);
    if (end) result.end = std::max(result.end, align_up(std::min(*end, Addr{1} << 63), kPageBytes));
  }
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type == PT_INTERP) result.has_interpreter = true;
    if (segment.p_type == PT_DYNAMIC) result.dynamic = read_dynamic(reader, segment, result.load_bias);
    if (segment.p_type == PT_NOTE && result.build_id.empty() && segment.p_memsz <= kMaxNoteBytes) {
      result.build_id = build_id_in_notes(reader.span(result.load_bias + segment.p_vaddr, segment.p_memsz));
    }
  }
  return result;
}

}  // namespace heapcore

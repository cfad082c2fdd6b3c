// What a loaded ELF file tells of itself in the target's memory: its program headers and its dynamic section. Private
// to coreparse.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "coreparse/address_space.h"
#include "coreparse/elf_file.h"

namespace heapcore {

// Addresses of the dynamic section's tables in the target; 0 where there is none.
struct MemoryDynamic {
  Addr gnu_hash = 0;
  Addr symtab = 0;
  Addr strtab = 0;
  Addr r_debug = 0;                            // of the main program: ld.so's list of what is loaded
  std::optional<std::uint64_t> soname_offset;  // in strtab
};

struct MemoryElf {
  Addr load_bias = 0;
  bool has_interpreter = false;  // PT_INTERP: a dynamically linked program, no library
  Addr end = 0;                  // of the last PT_LOAD, rounded up to a page
  std::vector<ElfLoad> loads;    // as in the file
  std::vector<std::byte> build_id;
  MemoryDynamic dynamic;
};

// Reads the ELF file of `machine` whose header was loaded at `base`; nothing if there is none. What lies in pages that
// the snapshot lacks stays empty.
std::optional<MemoryElf> read_memory_elf(Reader& reader, Addr base, std::uint16_t machine);

}  // namespace heapcore

// Naming mappings where the core does not: a core that was cut short may have lost its list of mapped files (gdb writes
// it last), yet ELF headers in memory and ld.so's list of loaded files still tell which modules lie where. Private to
// coreparse.
#pragma once

#include <cstdint>

#include "coreparse/snapshot.h"

namespace heapcore {

// The name given to the main program's mappings when its path is not to be had. --exe says which file it is.
inline constexpr const char* kUnknownExecutable = "[executable]";

// Sets path and file_offset of mappings that have none and belong to a module whose header is in memory.
void name_mappings_from_memory(Snapshot& snapshot, std::uint16_t machine);

}  // namespace heapcore

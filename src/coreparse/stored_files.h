// Which mappings of files a core that heapcore writes keeps whole. Private to coreparse.
#pragma once

#include <vector>

#include "coreparse/snapshot.h"

namespace heapcore {

// For each mapping whether it is a read-only part of a program or library of at most 64 MiB; 512 MiB in all, the
// smallest files first. With those a core can be read where the files are not.
std::vector<bool> files_to_store(const std::vector<Mapping>& mappings);

}  // namespace heapcore

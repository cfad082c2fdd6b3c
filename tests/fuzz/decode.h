// Decodes objects in every way there is: recognised, measured, followed, shown.
#pragma once

#include <vector>

#include "analysis/process.h"

namespace heapcore::fuzz {

void decode(Process& process, const std::vector<Addr>& objects);

}  // namespace heapcore::fuzz

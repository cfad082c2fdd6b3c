// Words that text and JSON share.
#pragma once

#include <string>

#include "glibc_heap/heap.h"
#include "pyobj/runtime.h"

namespace heapcore {

const char* heapcore_version();  // "0.1.0"

// What the report says it cannot tell.
inline constexpr const char* kReportLimits[] = {
    "No core can tell where objects were allocated, how the memory grew, or what past peaks were.",
    "Objects in static memory of the interpreter and of extension modules are not counted.",
};

// "release", "debug", "free-threaded", "free-threaded debug".
std::string build_text(const PythonState& python);
// "glibc 2.36".
std::string libc_text(const Heap& heap);
// "structure; confirmed by relocation, code".
std::string located_text(const Heap& heap);
// "2.36 (table)", "2.36 (DWARF of build-id ...)".
std::string layout_text(const Heap& heap);

}  // namespace heapcore

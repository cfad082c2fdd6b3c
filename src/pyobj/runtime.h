// Where a CPython runtime lies in the target: which version it is, its interpreters, its types' anchor, obmalloc's
// arenas.
//
// Everything found is verified before it is trusted: `type` is its own type and is called "type", interpreters' thread
// lists point back, collector lists close, arenas' pools carry their arena's index. What fails is refused with a
// finding, and the other parts still answer.
//
// Does not: decode objects or read pools (obmalloc.h, census in analysis).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "coreparse/snapshot.h"
#include "pyobj/layout_origin.h"

namespace heapcore {

struct Interpreter {
  Addr address = 0;
  std::int64_t id = 0;
  bool gc_enabled = false;
  bool gc_collecting = false;  // the snapshot was taken inside a collection
};

// obmalloc's table of arena_objects.
struct ArenaTable {
  Addr address = 0;
  std::uint32_t count = 0;  // maxarenas
  std::string located_by;   // "symbol arenas", "code of _Py_GetAllocatedBlocks", "structure"
};

// Where mimalloc's structures are, in builds that have it in place of obmalloc (mimalloc.h).
struct MimallocPlace {
  std::vector<Addr> heaps;     // mi_heap_s of every thread
  std::vector<Addr> segments;  // mi_segment_s, by address
  std::string located_by;
};

// Where the list of the blocks starts that hold one kind of number (see number_blocks.h).
struct NumberBlockList {
  Addr type = 0;   // &PyInt_Type, &PyFloat_Type
  Addr first = 0;  // a block; 0: there is none
  const char* located_by = "";
};

struct PyRuntime {
  PyTraits traits;
  LayoutOrigin layout_origin;  // keeps the layout that traits point to
  std::string module_path;     // the file that holds the interpreter: the executable or libpython
  std::string located_by;      // how the runtime was found
  Addr type_type = 0;          // &PyType_Type
  Addr state = 0;              // &_PyRuntime; 0 where there is none (to 3.6) or it was not found
  std::vector<Interpreter> interpreters;
  // The collector's generations where all interpreters share them (to 3.8), and what was frozen (3.7, 3.8); 0 else.
  Addr shared_generations = 0;
  Addr shared_permanent = 0;
  std::optional<ArenaTable> arenas;            // nothing: obmalloc was not found
  std::vector<ArenaTable> more_arenas;         // of sub-interpreters that have an allocator of their own (3.12+)
  std::vector<NumberBlockList> number_blocks;  // of int and float, where they have such
  std::optional<MimallocPlace> mimalloc;       // nothing: not this build's allocator, or not found
};

// What there is of Python in a process.
struct PythonState {
  // "3.11.7"; empty in a process with no Python in it. May be set although `runtime` is not: a version that heapcore
  // cannot read, or a runtime that did not verify; findings say which.
  std::string version;
  bool free_threaded = false;  // built without the GIL
  // The snapshot does not even say whether there is a Python; a finding says why.
  bool undetermined = false;
  std::optional<PyRuntime> runtime;
};

PythonState find_python(const Snapshot& snapshot, Findings& findings,
                        PyLayoutSource source = PyLayoutSource::kTablesFirst);

}  // namespace heapcore

// A target with everything that was located in it: what every command starts from.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "coreparse/snapshot.h"
#include "glibc_heap/locate.h"
#include "pyobj/runtime.h"
#include "support/finding.h"
#include "support/progress.h"
#include "support/result.h"
#include "support/timings.h"

namespace heapcore {

struct Process {
  Snapshot snapshot;
  PythonState python;
  HeapSearch malloc;
  Findings findings;  // of every pass so far

  Heap* heap() { return malloc.heap ? &*malloc.heap : nullptr; }
  const Heap* heap() const { return malloc.heap ? &*malloc.heap : nullptr; }
  const PyRuntime* runtime() const { return python.runtime ? &*python.runtime : nullptr; }
};

struct TargetName {
  std::string core;  // empty: a process
  std::int32_t pid = 0;
  OpenOptions files;
  LayoutSource malloc_layout = LayoutSource::kDebugFileFirst;
  PyLayoutSource python_layout = PyLayoutSource::kTablesFirst;
};

// The passes "open" and "locate".
Result<Process> open_target(const TargetName& target, Progress& progress, Timings& timings);

}  // namespace heapcore

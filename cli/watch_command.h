// The command that captures a process when it has grown.
#pragma once

#include "options.h"
#include "support/progress.h"
#include "support/timings.h"

namespace heapcore {

ExitStatus run_watch(const Options& options, Progress& progress, Timings& timings);

}  // namespace heapcore

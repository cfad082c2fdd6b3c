// The commands: each a list of named passes, then a renderer.
#pragma once

#include "options.h"
#include "support/progress.h"

namespace heapcore {

// Answers on standard output; warnings and errors on standard error.
ExitStatus run_command(const Options& options, Progress& progress);

}  // namespace heapcore

// The command that writes a core of a live process.
#pragma once

#include "coreparse/capture.h"
#include "options.h"
#include "support/progress.h"
#include "support/result.h"
#include "support/timings.h"

namespace heapcore {

// Captures the process of `options` into `descriptor`, with or without the contents of its strings.
Result<CaptureSummary> capture(const Options& options, const CaptureOptions& how, int descriptor, Progress& progress,
                               Timings& timings);

ExitStatus run_capture(const Options& options, Progress& progress, Timings& timings);

}  // namespace heapcore

// The command about tracemalloc's tables.
#pragma once

#include "answer.h"
#include "options.h"
#include "report/answers.h"
#include "support/progress.h"
#include "support/result.h"

namespace heapcore {

// REQUIRES: process.runtime() != nullptr. The older target of --since is opened here; its findings are added.
Result<Answer> answer_trace(const Options& options, Process& process, Progress& progress, Timings& timings,
                            const TextStyle& style);

}  // namespace heapcore

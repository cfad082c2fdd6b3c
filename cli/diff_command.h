// The command that takes two targets.
#pragma once

#include "answer.h"
#include "options.h"
#include "report/answers.h"
#include "support/progress.h"
#include "support/result.h"

namespace heapcore {

// `newer` is the target of `options`; the older one is opened here. Its findings are added to the newer's.
Result<Answer> answer_diff(const Options& options, Process& newer, Progress& progress, Timings& timings,
                           const TextStyle& style);

}  // namespace heapcore

// The command that takes two targets, and what others need that compare.
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

// The core file that `options` name beside the target.
Result<Process> open_older(const Options& options, Progress& progress, Timings& timings);
// What is wrong with a target that holds nothing to compare.
Error no_python_to_compare(const Process& process);
void take_findings_of_older(const Process& older, Findings& findings);

}  // namespace heapcore

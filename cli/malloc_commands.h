// `malloc` and its questions, and `verify`.
#pragma once

#include "answer.h"
#include "options.h"
#include "report/answers.h"

namespace heapcore {

// `malloc`, `malloc --bins`, `malloc --sizes`, `malloc --unowned`, `malloc ADDR...`.
Answer answer_malloc(const Options& options, Process& process, Progress& progress, Timings& timings,
                     const TextStyle& style);

// `malloc --chunks ARENA`: writes rows while it walks, so that memory does not grow with their number.
Result<ExitStatus> stream_chunks(const Options& options, Process& process, Timings& timings);

Answer answer_verify(const Options& options, Process& process, Progress& progress, Timings& timings,
                     const TextStyle& style);

}  // namespace heapcore

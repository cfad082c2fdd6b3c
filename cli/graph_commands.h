// The commands that ask who holds what: retained, cycles, paths, threads, audit.
#pragma once

#include "answer.h"
#include "options.h"
#include "report/answers.h"
#include "support/progress.h"

namespace heapcore {

// Each has REQUIRES: process.runtime() != nullptr.
Answer answer_retained(const Options& options, Process& process, Progress& progress, Timings& timings,
                       const TextStyle& style);
Answer answer_cycles(const Options& options, Process& process, Progress& progress, Timings& timings,
                     const TextStyle& style);
Answer answer_paths(const Options& options, Process& process, Progress& progress, Timings& timings,
                    const TextStyle& style);
Answer answer_threads(const Options& options, Process& process, Progress& progress, Timings& timings,
                      const TextStyle& style);
Answer answer_audit(const Options& options, Process& process, Progress& progress, Timings& timings,
                    const TextStyle& style);

}  // namespace heapcore

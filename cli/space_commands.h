// The commands that ask what space is wasted: map, pins, waste.
#pragma once

#include "answer.h"
#include "options.h"
#include "report/answers.h"
#include "support/progress.h"

namespace heapcore {

Answer answer_map(const Options& options, Process& process, Progress& progress, Timings& timings,
                  const TextStyle& style);
// REQUIRES: process.runtime() != nullptr.
Answer answer_pins(const Options& options, Process& process, Progress& progress, Timings& timings,
                   const TextStyle& style);
// REQUIRES: process.runtime() != nullptr.
Answer answer_waste(const Options& options, Process& process, Progress& progress, Timings& timings,
                    const TextStyle& style);

}  // namespace heapcore

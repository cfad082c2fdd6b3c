// The commands: each a list of named passes, then a renderer.
#pragma once

#include <string>

#include "options.h"
#include "support/progress.h"
#include "support/result.h"

namespace heapcore {

// Writes all of `text` to standard output. False, with a message on standard error, if it did not go out whole.
bool write_answer(const std::string& text);

// Says on standard error what is wrong, and what to do.
ExitStatus refuse(const Error& error, Progress& progress);

// Answers on standard output; warnings and errors on standard error.
ExitStatus run_command(const Options& options, Progress& progress);

}  // namespace heapcore

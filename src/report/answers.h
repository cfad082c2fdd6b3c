// The answers of heapcore's commands as text and as JSON. Each takes the plain values that analysis made and computes
// nothing.
//
// JSON keys are a contract (docs/commands.md): addresses are lower-case hexadecimal strings, counts and bytes integers.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "analysis/ledger.h"
#include "analysis/process.h"
#include "analysis/type_rows.h"
#include "pyobj/obmalloc.h"
#include "support/timings.h"

namespace heapcore {

struct TextStyle {
  bool color = false;      // ANSI escapes for headings and warnings
  std::size_t limit = 20;  // rows shown of a long table; 0 for all
};

// What every JSON document begins with: "warnings" for what is missing or damaged, "notes" for what is worth knowing.
// An entry's "seen" says how often its code came up; of each code only the first few are listed.
nlohmann::ordered_json document_head(const std::string& command, const Process& process);
std::string warnings_text(const Findings& findings);
std::string timings_text(const Timings& timings);

nlohmann::ordered_json types_json(const TypeRows& types, std::size_t limit);
std::string types_text(const TypeRows& types, const TextStyle& style);

nlohmann::ordered_json pymalloc_json(const ObmallocUse& use);
std::string pymalloc_text(const ObmallocUse& use, const TextStyle& style);

// Of malloc's other answers see malloc_answers.h.
nlohmann::ordered_json malloc_json(const Heap& heap);
std::string malloc_text(const Heap& heap, const TextStyle& style);

nlohmann::ordered_json ledger_json(const Ledger& ledger);
std::string ledger_text(const Ledger& ledger, const TextStyle& style);

}  // namespace heapcore

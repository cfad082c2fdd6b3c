// Whose malloc's chunks are, and what no Python object owns: sections of the report, and the answer of
// `malloc --unowned`.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "analysis/native_blocks.h"
#include "report/answers.h"

namespace heapcore {

nlohmann::ordered_json owners_json(const MallocOwners& owners);
nlohmann::ordered_json native_json(const NativeBlocks& native);

// Two tables, each of style.limit rows; nothing where there is nothing.
std::string native_text(const NativeBlocks& native, const TextStyle& style);

// Of `malloc --unowned`: the owners too.
nlohmann::ordered_json unowned_json(const MallocOwners& owners, const NativeBlocks& native);
std::string unowned_text(const MallocOwners& owners, const NativeBlocks& native, const TextStyle& style);

}  // namespace heapcore

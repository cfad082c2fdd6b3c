// The answer of `show ADDR` as text and as JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "analysis/sight.h"
#include "report/answers.h"

namespace heapcore {

nlohmann::ordered_json show_json(const Process& process, const std::vector<Sight>& sights);
std::string show_text(const Process& process, const std::vector<Sight>& sights, const TextStyle& style);

// "rw-p".
std::string permissions_text(const Mapping& mapping);

// How the state of a block is called.
constexpr const char* block_state_name(BlockState state) {
  switch (state) {
    case BlockState::kInUse:
      return "in_use";
    case BlockState::kFree:
      return "free";
    case BlockState::kNeverUsed:
      return "never_used";
    case BlockState::kHeader:
      return "header";
  }
  return "";
}

}  // namespace heapcore

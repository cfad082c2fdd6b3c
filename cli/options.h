// The command line, parsed. See docs/commands.md.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "analysis/process.h"
#include "analysis/type_rows.h"

namespace heapcore {

enum class ExitStatus : int { kAnswered = 0, kIncomplete = 1, kUsage = 2, kUnreadable = 3 };

enum class ColorChoice : std::uint8_t { kAuto, kAlways, kNever };

struct Options {
  std::string command;  // one of command_names()
  TargetName target;
  std::string output;  // -o of report; empty: standard output
  bool json = false;
  bool values = false;  // string contents may be shown; no command of this version shows any
  bool tracked = false;
  bool timings = false;
  bool progress = true;
  ColorChoice color = ColorChoice::kAuto;
  std::optional<std::size_t> limit;  // 0: no limit; nothing: the command's own default
  int threads = 0;                   // 0: as many as there are processors
  GroupBy by = GroupBy::kType;
  SortBy sort = SortBy::kBytes;
};

// What is to be done instead of running a command: text for standard output (--help, --version) or standard error.
struct EarlyExit {
  ExitStatus status = ExitStatus::kAnswered;
  std::string text;
};

// Parses argv. Either options or an early exit is filled.
std::optional<Options> parse_command_line(int argc, char** argv, EarlyExit& early);

}  // namespace heapcore

// The command line, parsed. See docs/commands.md.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "analysis/process.h"
#include "analysis/trace.h"
#include "analysis/type_rows.h"
#include "fail_if.h"

namespace heapcore {

enum class ExitStatus : int { kAnswered = 0, kIncomplete = 1, kUsage = 2, kUnreadable = 3, kConditionHeld = 4 };

enum class ColorChoice : std::uint8_t { kAuto, kAlways, kNever };

struct Options {
  std::string command;  // "report", "types" ...
  TargetName target;
  std::string older;   // diff, trace: the core file that `target` is compared with
  std::string output;  // -o of report; empty: standard output. Of capture a file or -, of watch a folder
  bool json = false;
  bool values = false;  // contents of strings and bytes may be shown
  bool tracked = false;
  bool reachable = false;  // types: only what can be reached from what is tracked
  bool timings = false;
  bool progress = true;
  ColorChoice color = ColorChoice::kAuto;
  std::optional<std::size_t> limit;  // 0: no limit; nothing: the command's own default
  int threads = 0;                   // 0: as many as there are processors
  GroupBy by = GroupBy::kType;
  SortBy sort = SortBy::kBytes;
  std::vector<std::string> names;      // types: globs of which types
  bool bins = false;                   // malloc: the bins of every arena
  bool sizes = false;                  // malloc: sizes of the chunks in use
  bool unowned = false;                // malloc: what no Python object owns
  bool garbage = false;                // cycles: only those the collector would free
  bool dot = false;                    // paths: in Graphviz's language
  bool retained = false;               // refs: what each retains as well
  bool by_address = false;             // map: arenas in the order of their addresses, not the sparsest first
  int below_percent = 25;              // pins: of what is nearly empty
  TraceOptions trace;                  // trace: how its sites are grouped and chosen
  bool layouts = false;                // verify: where each field lies, and who says so
  std::uint64_t max_memory_bytes = 0;  // --max-memory; 0: no limit
  bool force = false;                  // capture: an existing file may be replaced
  bool strings = true;                 // capture, watch: false: contents of strings are left out
  std::uint64_t buffer_bytes = std::uint64_t{64} << 20;  // capture, watch: read ahead of what is written
  std::uint64_t rss_above_bytes = 0;                     // watch
  std::uint64_t disk_bytes = 0;                          // watch: of all files together; 0: no limit
  int at_most = 3;                                       // watch: files
  double interval_seconds = 1;                           // watch
  std::string chunks;                  // malloc: the arena whose chunks are to be listed; empty for none
  std::vector<Condition> fail_if;      // report: those under which the exit status is 4
  std::vector<std::string> addresses;  // what is asked about; of paths an address or a type's glob

  bool writes_json() const { return json || output.ends_with(".json"); }
  bool writes_html() const { return output.ends_with(".html"); }
};

// What is to be done instead of running a command: text for standard output (--help, --version) or standard error.
struct EarlyExit {
  ExitStatus status = ExitStatus::kAnswered;
  std::string text;
};

// A hexadecimal number, with or without 0x.
std::optional<Addr> parse_address(const std::string& text);
// For `show`: hexadecimal with 0x, or decimal, as Python's id() prints it.
std::optional<Addr> parse_object_address(const std::string& text);

// Parses argv. Either options or an early exit is filled.
std::optional<Options> parse_command_line(int argc, char** argv, EarlyExit& early);

}  // namespace heapcore

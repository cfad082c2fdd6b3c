#include "options.h"

#include <archive.h>
#include <capstone.h>
#include <elfutils/libdwfl.h>
#include <fmt/format.h>
#include <tbb/version.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>

#include "report/version.h"
#include "size.h"

namespace heapcore {
namespace {

struct CommandName {
  const char* name;
  const char* question;
};

constexpr CommandName kCommands[] = {
    {"report", "the incident report: where did the memory go (this is the default)"},
    {"types", "how many objects of which type, and how many bytes"},
    {"malloc", "glibc malloc: arenas, free lists, mmapped chunks, what malloc_trim would return"},
    {"pymalloc", "CPython's allocator: arenas, pools, size classes"},
    {"ledger", "every mapped byte, by what it is"},
    {"map", "fragmentation of both allocators: what of each arena is live, as figures and as a picture"},
    {"diff", "what grew between an older core and a newer one, or a live process"},
    {"capture", "writes a core of a live process, with what heapcore needs"},
    {"watch", "captures a live process when it has grown, before the OOM killer ends it"},
    {"cycles", "reference cycles, and what the collector has not collected yet"},
    {"audit", "objects whose reference count exceeds the references found"},
    {"paths", "who holds an object, or all objects of a type: shortest paths from named roots"},
    {"pins", "which live objects keep nearly empty arenas and pages from going back"},
    {"refs", "what an object refers to, and who refers to it"},
    {"retained", "the dominator tree: what would go if this went"},
    {"show", "what is at an address: mapping, chunk, block, object, its value and fields"},
    {"threads", "what every thread was doing: Python and native frames, and what their locals hold; asyncio tasks"},
    {"trace", "where what is in use was allocated, if tracemalloc was tracing; what lies there, who holds it"},
    {"verify", "consistency of the allocators' structures; findings with addresses"},
    {"waste", "duplicate strings, sparse containers, boxed numbers, what slots would save"},
};

constexpr const char* kFooter = R"(A first word that is a command name is the command; anything else is a core file:
  heapcore worker.core             heapcore --pid 7458
  heapcore types worker.core       heapcore types --pid 7458 --tracked --limit 50
Exit status: 0 answered; 1 answered, with parts missing or damaged; 2 usage; 3 the target cannot be read;
4 a condition of --fail-if holds.)";

bool is_command(std::string_view word) {
  return std::any_of(std::begin(kCommands), std::end(kCommands), [&](const CommandName& c) { return word == c.name; });
}

// How many letters must be added, dropped, changed or swapped with a neighbour.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

// The nearest of `known`, if it is near enough to have been meant.
std::string meant(std::string_view word, const std::vector<std::string>& known) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(1, std::min<std::size_t>(3, word.size() / 2)) + 1;
  for (const std::string& candidate : known) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string version_text() {
  int capstone_major = 0;
  int capstone_minor = 0;
  cs_version(&capstone_major, &capstone_minor);
  return fmt::format(
      "heapcore {}\nlinked with: elfutils (libelf, libdw) {}, Capstone {}.{}, {}, oneTBB {}\n"
      "built with: fmt {}.{}.{}, CLI11 {}, JSON for Modern C++ {}.{}.{}\n",
      heapcore_version(), dwfl_version(nullptr), capstone_major, capstone_minor, archive_version_string(),
      TBB_runtime_version(), FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100, CLI11_VERSION,
      NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH);
}

// An option that takes a size in bytes.
CLI::Option* add_size(CLI::App& command, const std::string& name, std::uint64_t& bytes, const std::string& what) {
  return command.add_option_function<std::string>(
      name,
      [name, &bytes](const std::string& text) {
        const std::optional<std::uint64_t> size = parse_size(text);
        if (!size || *size == 0)
          throw CLI::ValidationError(name, fmt::format("takes a size, such as 2G, 500M or 4096, not \"{}\"", text));
        bytes = *size;
      },
      what);
}

constexpr int kMost = std::numeric_limits<int>::max();

// Accepts whole numbers from `least` to `most`.
CLI::Validator whole_number(int least, int most, const char* what) {
  const auto check = [least, most, what](const std::string& text) {
    int value = 0;
    const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool good = bad == std::errc() && end == text.data() + text.size() && value >= least && value <= most;
    return good ? std::string() : fmt::format("takes {}, not \"{}\"", what, text);
  };
  return CLI::Validator(check, "");
}

template <typename Value>
using Choices = std::vector<std::pair<std::string, Value>>;

// An option that takes one of a few words.
template <typename Value>
void add_choice(CLI::App& command, const std::string& name, Value& value, const Choices<Value>& choices) {
  std::string words;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    words += (i == 0 ? "" : i + 1 == choices.size() ? " or " : ", ") + choices[i].first;
  }
  command.add_option_function<std::string>(
      name,
      [name, &value, choices, words](const std::string& word) {
        for (const auto& [known, meaning] : choices) {
          if (word == known) {
            value = meaning;
            return;
          }
        }
        throw CLI::ValidationError(name, fmt::format("takes {}, not \"{}\"", words, word));
      },
      words);
}

// The hint says what is allowed.
struct BadCondition : CLI::ValidationError {
  explicit BadCondition(const heapcore::Error& error) : CLI::ValidationError(error.message), hint(error.hint) {}
  std::string hint;
};

// Of `capture` and `watch`, which take no core and answer no question.
void add_capture_options(CLI::App& command, Options& options, bool watches) {
  command.add_option("--pid", options.target.pid, "the process")->check(whole_number(1, kMost, "a process id"));
  command.add_flag("!--no-strings", options.strings, "leave the contents of strings and bytes out");
  add_size(command, "--buffer", options.buffer_bytes,
           "how much to read ahead of what is written; a process that holds less does not wait for the disk; 64M");
  if (!watches) {
    command.add_option("-o,--output", options.output, "the file; .zst compresses it; - is standard output, compressed");
    command.add_flag("--force", options.force, "replace the file if there is one");
    command.add_flag("--json", options.json, "one JSON document on standard output");
    return;
  }
  command.add_option("-o,--output", options.output, "the folder that the cores go into");
  add_size(command, "--rss-above", options.rss_above_bytes, "capture when more than this is resident")->required();
  command.add_option("--at-most", options.at_most, "how many cores to take, each after a quarter's growth; 3")
      ->check(whole_number(1, 1000, "a number from 1 to 1000"));
  add_size(command, "--disk", options.disk_bytes, "what the cores may take together");
  command.add_option("--interval", options.interval_seconds, "seconds between two looks; 1")
      ->check(CLI::Range(0.01, 3600.0));
}

// "app/*.py:41": a glob of a file's name, and a line.
TraceFilter parse_filter(const std::string& text, bool inclusive) {
  const std::size_t colon = text.rfind(':');
  std::uint32_t line = 0;
  const char* const first = text.data() + (colon == std::string::npos ? text.size() : colon + 1);
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(first, last, line);
  const bool has_line = first != last && error == std::errc() && end == last;
  return {has_line ? text.substr(0, colon) : text, has_line ? std::optional(line) : std::nullopt, inclusive};
}

void add_trace_options(CLI::App& command, Options& options) {
  add_choice<TraceBy>(command, "--by", options.trace.by,
                      {{"lineno", TraceBy::kLine}, {"filename", TraceBy::kFile}, {"traceback", TraceBy::kTraceback}});
  for (const bool inclusive : {true, false}) {
    command
        .add_option_function<std::vector<std::string>>(
            inclusive ? "--include" : "--exclude",
            [&options, inclusive](const std::vector<std::string>& texts) {
              for (const std::string& text : texts) options.trace.filters.push_back(parse_filter(text, inclusive));
            },
            inclusive ? "only what files called so allocated: a glob, and perhaps :LINE; several may be given"
                      : "not what files called so allocated")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
  command.add_flag("--all-frames", options.trace.all_frames,
                   "--include and --exclude look at all frames, not the most recent");
  command.add_option("--domain", options.trace.domain, "only blocks of this domain; 0 is Python's own");
  command.add_option("--since", options.older, "an older core file: what grew since");
}

// The options of one command. CLI11 writes into `options`, which outlives the parse.
void add_options(CLI::App& command, Options& options) {
  const std::string name = command.get_name();
  command.add_flag("!--no-stop", options.target.files.stop,
                   "let a live process run on while it is read; what changes meanwhile may be torn");
  command.add_flag("!--no-progress", options.progress, "no progress on standard error");
  add_size(command, "--max-memory", options.max_memory_bytes, "an error, rather than more memory than this");
  if (name == "capture" || name == "watch") return add_capture_options(command, options, name == "watch");
  if (name == "diff") command.add_option("OLD", options.older, "the older core file");
  command.add_option(name == "diff" ? "NEW" : "TARGET", options.target.core, "a core file (also .zst .lz4 .xz .gz)");
  command.add_option("--pid", options.target.pid, "a live process instead of a core file")
      ->check(whole_number(1, kMost, "a process id"));
  command.add_option("--exe", options.target.files.exe, "the main executable, if it lies elsewhere here");
  command.add_option("--sysroot", options.target.files.sysroot, "where the mapped files of another machine lie");
  command.add_flag("--json", options.json, "one JSON document on standard output");
  command.add_option("--limit", options.limit, "rows shown of long tables; 0 for all")
      ->check(whole_number(0, kMost, "a whole number"));
  command.add_option("--threads", options.threads, "threads to use; 0 for one a processor")
      ->check(whole_number(0, 1024, "a number of threads, at most 1024"));
  command.add_flag("--timings", options.timings, "how long each pass took, on standard error");
  command.add_flag("--values", options.values, "allow contents of strings and bytes in the answer");
  add_choice<ColorChoice>(
      command, "--color", options.color,
      {{"auto", ColorChoice::kAuto}, {"always", ColorChoice::kAlways}, {"never", ColorChoice::kNever}});
  if (name == "types") {
    add_choice<SortBy>(command, "--sort", options.sort,
                       {{"bytes", SortBy::kBytes}, {"count", SortBy::kCount}, {"name", SortBy::kName}});
    CLI::Option* tracked =
        command.add_flag("--tracked", options.tracked, "only objects that gc.get_objects() would return");
    command
        .add_flag("--reachable", options.reachable,
                  "only those and what gc.get_referents() leads to from them, static objects too")
        ->excludes(tracked);
    command
        .add_option("--name", options.names, "only types called so: a glob of module.qualname; several may be given")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    add_choice<GroupBy>(command, "--by", options.by,
                        {{"type", GroupBy::kType}, {"module", GroupBy::kModule}, {"size", GroupBy::kSize}});
  }
  if (name == "trace") add_trace_options(command, options);
  if (name == "map") {
    add_choice<bool>(command, "--sort", options.by_address, {{"live", false}, {"address", true}});
  }
  if (name == "pins") {
    command
        .add_option("--below", options.below_percent,
                    "arenas and pages of which less than so many percent are live; 25")
        ->check(whole_number(1, 100, "a percentage from 1 to 100"));
  }
  if (name == "malloc") {
    command.add_option("ADDR", options.addresses, "which chunk holds this address, its state, its neighbours");
    command.add_flag("--bins", options.bins, "the free lists of every arena: tcache, fast, unsorted, small, large");
    command.add_flag("--sizes", options.sizes, "the chunks in use, by size");
    command.add_flag(
        "--unowned", options.unowned,
        "whose the chunks in use are; C++ objects by class, and what no Python object owns, by what it is like");
    command.add_option("--chunks", options.chunks, "every chunk of one arena: its address, or main");
  }
  if (name == "show" || name == "refs")
    command.add_option("ADDR", options.addresses, "an address: 0x7f3a10, or decimal as id() gives it");
  if (name == "retained") {
    command.add_option("ADDR", options.addresses, "one object: what dominates it, and what it dominates")
        ->expected(0, 1);
  }
  if (name == "paths") {
    command
        .add_option("WHAT", options.addresses, "an address, or a glob of module.qualname: all objects of those types")
        ->expected(0, 1);
    command.add_flag("--dot", options.dot, "as a graph in Graphviz's language")->excludes(command.get_option("--json"));
  }
  if (name == "refs") command.add_flag("--retained", options.retained, "what each of them retains, too");
  if (name == "cycles") command.add_flag("--garbage", options.garbage, "only what the collector would free");
  if (name == "verify") {
    command.add_flag("--layouts", options.layouts, "where each field of the structures read lies, and who says so");
  }
  if (name == "report") {
    command.add_option("-o,--output", options.output, "write the report to FILE: .txt, .json, or .html for a page");
    command
        .add_option_function<std::vector<std::string>>(
            "--fail-if",
            [&options](const std::vector<std::string>& texts) {
              for (const std::string& text : texts) {
                const Result<Condition> condition = parse_condition(text);
                if (!condition) throw BadCondition(condition.error());
                options.fail_if.push_back(*condition);
              }
            },
            "exit with status 4 if it holds: retained>2G, rss>4G, finding=high ...; several may be given")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
}

EarlyExit usage(const std::string& message, const std::string& hint) {
  return {ExitStatus::kUsage, fmt::format("heapcore: {}\n{}\n", message, hint)};
}

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

// A word that is neither a command nor a file: what was meant?
std::optional<EarlyExit> unknown_word(const std::string& word, bool alone) {
  if (::access(word.c_str(), F_OK) == 0) return std::nullopt;
  std::vector<std::string> names;
  for (const CommandName& command : kCommands) names.emplace_back(command.name);
  const std::string best = meant(word, names);
  if (!best.empty() && word.find('/') == std::string::npos && word.find('.') == std::string::npos) {
    return usage(fmt::format("\"{}\" is neither a command nor a file", word),
                 fmt::format("did you mean \"{}\"?", best));
  }
  if (alone) return std::nullopt;  // a core file that is not there: opening it says so
  return usage(fmt::format("\"{}\" is neither a command nor a file", word), "heapcore --help lists the commands");
}

}  // namespace

std::optional<Addr> parse_address(const std::string& text) {
  const std::string_view digits =
      std::string_view(text).substr(text.starts_with("0x") || text.starts_with("0X") ? 2 : 0);
  Addr value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (digits.empty() || error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

namespace {

// Commands whose addresses are those of objects.
bool is_about_objects(const Options& options) {
  return options.command == "show" || options.command == "refs" || options.command == "retained" ||
         options.command == "paths";
}

// Of which they need at least one.
bool needs_address(const Options& options) {
  return options.command == "show" || options.command == "refs" || options.command == "paths";
}

}  // namespace

std::optional<Addr> parse_object_address(const std::string& text) {
  if (text.starts_with("0x") || text.starts_with("0X")) return parse_address(text);
  Addr value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<Options> parse_command_line(int argc, char** argv, EarlyExit& early) {
  Options options;
  CLI::App app("Says where a CPython process's memory went, from a core file or a live process.", "heapcore");
  app.footer(kFooter);
  app.require_subcommand(0, 1);
  bool version = false;
  app.add_flag("--version", version, "versions of heapcore and of the libraries it is linked with");
  for (const CommandName& command : kCommands)
    add_options(*app.add_subcommand(command.name, command.question), options);

  std::vector<std::string> words(argv + 1, argv + argc);
  if (words.empty()) {
    early = usage("no target", "name a core file, or a process with --pid PID; heapcore --help says more");
    return std::nullopt;
  }
  const bool about_all = words[0] == "--help" || words[0] == "-h" || words[0] == "--version";
  if (!about_all && !is_command(words[0])) {
    if (!words[0].starts_with('-')) {
      const bool alone = words.size() == 1 || words[1].starts_with('-');
      if (const auto exit = unknown_word(words[0], alone)) {
        early = *exit;
        return std::nullopt;
      }
    }
    words.insert(words.begin(), "report");
  }
  options.command = about_all ? "" : words[0];
  const CLI::App& command = about_all ? app : *app.get_subcommand(words[0]);
  try {
    std::reverse(words.begin(), words.end());  // as CLI11 wants it
    app.parse(words);
  } catch (const CLI::CallForHelp&) {
    early = {ExitStatus::kAnswered, app.help()};
    return std::nullopt;
  } catch (const CLI::ExtrasError&) {
    const std::vector<std::string> extra = app.remaining(true);
    const std::string word = extra.empty() ? "" : extra.front();
    const std::string best = word.starts_with("--") ? meant(word.substr(0, word.find('=')), option_names(command)) : "";
    early = usage(fmt::format("{} does not take \"{}\"", options.command, word),
                  best.empty() ? fmt::format("heapcore {} --help lists its options", options.command)
                               : fmt::format("did you mean {}?", best));
    return std::nullopt;
  } catch (const BadCondition& error) {
    early = usage(error.what(), error.hint);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    early = usage(error.what(), fmt::format("heapcore {} --help lists its options", options.command));
    return std::nullopt;
  }
  if (version) {
    early = {ExitStatus::kAnswered, version_text()};
    return std::nullopt;
  }
  if (options.command == "capture" || options.command == "watch") {
    const bool watches = options.command == "watch";
    if (options.target.pid == 0) {
      early = usage(options.command + ": no process", "name one with --pid PID");
      return std::nullopt;
    }
    if (options.output.empty()) {
      early = usage(fmt::format("{}: no {}", options.command, watches ? "folder" : "file"), "name one with -o");
      return std::nullopt;
    }
    return options;
  }
  // With --pid the first word that is no option is an address.
  const bool takes_addresses = options.command == "malloc" || is_about_objects(options);
  if (takes_addresses && options.target.pid != 0 && !options.target.core.empty()) {
    options.addresses.insert(options.addresses.begin(), std::move(options.target.core));
    options.target.core.clear();
  }
  if (options.bins + options.sizes + options.unowned + !options.chunks.empty() + !options.addresses.empty() > 1) {
    early = usage("--bins, --sizes, --unowned, --chunks and addresses are different questions", "ask one at a time");
    return std::nullopt;
  }
  if (!options.names.empty() && options.by != GroupBy::kType) {
    early = usage("--name chooses types, and --by module or size has none", "leave one of the two out");
    return std::nullopt;
  }
  for (const std::string& address : options.addresses) {
    if (options.command == "paths") continue;  // a type's name if it is none
    if (is_about_objects(options) ? parse_object_address(address) : parse_address(address)) continue;
    early = usage(fmt::format("\"{}\" is no address", address),
                  is_about_objects(options)
                      ? "an address is hexadecimal with 0x, such as 0x7f3a10, or decimal, as id() prints it"
                      : "an address is a hexadecimal number, such as 0x7f3a10");
    return std::nullopt;
  }
  if (needs_address(options) && options.addresses.empty()) {
    early = usage(options.command + ": no address", "name one or more after the target, such as 0x7f3a10");
    return std::nullopt;
  }
  if (!options.chunks.empty() && options.chunks != "main" && !parse_address(options.chunks)) {
    early = usage(fmt::format("\"{}\" is no arena", options.chunks),
                  "name one as `heapcore malloc` does, by address, or main");
    return std::nullopt;
  }
  const OpenOptions& files = options.target.files;
  if (!files.exe.empty() && ::access(files.exe.c_str(), R_OK) != 0) {
    early = usage(fmt::format("--exe: {} does not exist or may not be read", files.exe),
                  "name the file of the main program");
    return std::nullopt;
  }
  std::error_code ignored;
  if (!files.sysroot.empty() && !std::filesystem::is_directory(files.sysroot, ignored)) {
    early = usage(fmt::format("--sysroot: {} is not a directory", files.sysroot),
                  "name the directory under which the target's files lie by their own paths");
    return std::nullopt;
  }
  if (options.json && options.writes_html()) {
    early = usage("-o of a page and --json are two forms", "leave one of the two out");
    return std::nullopt;
  }
  if (!options.output.empty() && !options.output.ends_with(".txt") && !options.writes_json() &&
      !options.writes_html()) {
    early = usage(fmt::format("-o: {} says by its ending no form that heapcore writes", options.output),
                  "end the name in .txt, .json or .html");
    return std::nullopt;
  }
  if (options.command == "diff" &&
      (options.older.empty() || options.target.core.empty() == (options.target.pid == 0))) {
    early = usage("diff takes two targets", "name the older core file first, then the newer, or --pid PID");
    return std::nullopt;
  }
  if (options.target.core.empty() == (options.target.pid == 0)) {
    early = usage(options.target.core.empty() ? "no target" : "both a core file and --pid are given",
                  "name one target: a core file, or a process with --pid PID");
    return std::nullopt;
  }
  return options;
}

}  // namespace heapcore

#include "commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <new>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>

#include "analysis/holders.h"
#include "analysis/incident.h"
#include "analysis/process.h"
#include "analysis/reachable.h"
#include "analysis/refs.h"
#include "analysis/sight.h"
#include "analysis/stock.h"
#include "capture_command.h"
#include "diff_command.h"
#include "graph_commands.h"
#include "malloc_commands.h"
#include "output_file.h"
#include "pyobj/mimalloc.h"
#include "report/answers.h"
#include "report/format.h"
#include "report/refs_answers.h"
#include "report/report_answers.h"
#include "report/show_answers.h"
#include "space_commands.h"
#include "terminal.h"
#include "trace_command.h"
#include "watch_command.h"

namespace heapcore {
namespace {

using Json = nlohmann::ordered_json;

class Command {
 public:
  Command(const Options& options, Progress& progress, Process& process, Timings& timings)
      : options_(options), progress_(progress), process_(process), timings_(timings) {
    style_.color = options.output.empty() && use_color(options.color);
    style_.limit = options.limit.value_or(style_.limit);
  }

  Answer run() {
    if (options_.command == "types") return types();
    if (options_.command == "diff") return diff();
    if (options_.command == "trace") return trace();
    if (options_.command == "malloc") return answer_malloc(options_, process_, progress_, timings_, style_);
    if (options_.command == "verify") return answer_verify(options_, process_, progress_, timings_, style_);
    if (options_.command == "pymalloc") return pymalloc();
    if (options_.command == "ledger") return ledger();
    if (options_.command == "show") return show();
    if (options_.command == "refs") return refs();
    if (options_.command == "cycles") return about_graph(answer_cycles);
    if (options_.command == "paths") return about_graph(answer_paths);
    if (options_.command == "threads") return about_graph(answer_threads);
    if (options_.command == "audit") return about_graph(answer_audit);
    if (options_.command == "retained") return about_graph(answer_retained);
    if (options_.command == "waste") return about_graph(answer_waste);
    if (options_.command == "pins") return about_graph(answer_pins);
    if (options_.command == "map") return answer_map(options_, process_, progress_, timings_, style_);
    return report();
  }

  // Which of the conditions of --fail-if hold, a sentence each.
  const std::vector<std::string>& reasons() const { return reasons_; }
  // That one of them asks for what the target does not say.
  const std::optional<Error>& failed() const { return failed_; }

 private:
  Answer types() {
    TypeRows rows;
    rows.by = options_.by;
    rows.tracked_only = options_.tracked;
    if (process_.runtime() != nullptr) {
      const Census census = timings_.time("decode", [&] {
        return options_.reachable ? take_census_of_reachable(process_, progress_, process_.findings)
                                  : take_census(process_, progress_, process_.findings);
      });
      rows =
          timings_.time("summarise", [&] { return type_rows(census, options_.by, options_.sort, options_.tracked); });
    }
    rows.reachable_only = options_.reachable;
    if (!options_.names.empty()) select_named(rows, options_.names);
    return {types_json(rows, options_.limit.value_or(0)), no_python() ? no_python_text() : types_text(rows, style_)};
  }

  Answer pymalloc() {
    std::optional<ObmallocUse> use;
    if (!no_python()) {
      use = timings_.time(
          "walk", [&] { return summarise_allocator(process_.snapshot, *process_.runtime(), process_.findings); });
    }
    const std::string text = no_python() ? no_python_text()
                             : use       ? pymalloc_text(*use, style_)
                                         : "CPython's allocator was not found\n";
    ObmallocUse none;
    none.allocator = "";
    return {pymalloc_json(use.value_or(none)), text};
  }

  Answer ledger() {
    std::optional<Census> census;
    if (process_.runtime() != nullptr)
      census = timings_.time("decode", [&] { return take_census_of_blocks(process_, progress_, process_.findings); });
    const Stock stock = take_stock(process_, census ? &*census : nullptr, progress_, timings_);
    return {ledger_json(stock.ledger), ledger_text(stock.ledger, style_)};
  }

  Answer trace() {
    if (no_python()) return {Json::object(), no_python_text()};
    return or_failed(answer_trace(options_, process_, progress_, timings_, style_));
  }

  Answer diff() { return or_failed(answer_diff(options_, process_, progress_, timings_, style_)); }

  Answer or_failed(Result<Answer> answer) {
    if (answer) return std::move(*answer);
    failed_ = answer.error();
    return {};
  }

  Answer refs() {
    std::vector<ReferencesOf> answers;
    if (process_.runtime() != nullptr) {
      std::vector<Addr> addresses;
      for (const std::string& text : options_.addresses) addresses.push_back(parse_object_address(text).value_or(0));
      const RefsOptions how = {options_.limit.value_or(RefsOptions().limit), options_.values};
      answers = timings_.time("link", [&] { return find_references(process_, addresses, how, progress_); });
      if (options_.retained) add_retained(find_holders(process_, progress_, process_.findings, timings_), answers);
    }
    return {refs_json(answers), no_python() ? no_python_text() : refs_text(answers, style_)};
  }

  Answer show() {
    std::vector<Sight> sights;
    timings_.time("decode", [&] {
      Observer observer(process_, {options_.values, options_.limit.value_or(ValueOptions().limit)});
      for (const std::string& address : options_.addresses) {
        sights.push_back(observer.look(parse_object_address(address).value_or(0)));
      }
    });
    return {show_json(process_, sights), show_text(process_, sights, style_)};
  }

  using GraphAnswer = Answer(const Options&, Process&, Progress&, Timings&, const TextStyle&);

  Answer about_graph(GraphAnswer& answer) {
    if (no_python()) return {Json::object(), no_python_text()};
    return answer(options_, process_, progress_, timings_, style_);
  }

  Answer report() {
    IncidentOptions how;
    how.limit = options_.limit.value_or(how.limit);
    how.values = options_.values;
    how.ownership = options_.writes_html();
    const Incident incident = investigate(process_, how, progress_, timings_);
    process_.findings.sort();
    for (const Condition& condition : options_.fail_if) {
      Result<std::optional<std::string>> reason = why_true(condition, process_, incident);
      if (!reason) {
        failed_ = reason.error();
        return {};
      }
      if (*reason) reasons_.push_back(fmt::format("--fail-if {}: {}", condition.text, **reason));
    }
    return timings_.time("render", [&]() -> Answer {
      if (options_.writes_html()) return {Json(), report_html(process_, incident)};
      if (options_.writes_json()) return {report_json(process_, incident, options_.limit.value_or(0)), ""};
      return {Json(), report_text(process_, incident, style_)};
    });
  }

  bool no_python() const { return process_.runtime() == nullptr; }
  std::string no_python_text() const {
    if (process_.python.undetermined) return "whether there is a Python in this process cannot be told\n";
    return process_.python.version.empty() ? "there is no Python in this process\n"
                                           : fmt::format("CPython {} could not be decoded\n", process_.python.version);
  }

  const Options& options_;
  Progress& progress_;
  Process& process_;
  Timings& timings_;
  TextStyle style_;
  std::vector<std::string> reasons_;
  std::optional<Error> failed_;
};

// What to say where there was no more memory.
Error out_of_memory(const Options& options, const Timings& timings) {
  const std::string_view pass = timings.interrupted();
  const std::string where = pass.empty() ? std::string() : fmt::format(" in the pass \"{}\"", pass);
  if (options.max_memory_bytes != 0) {
    return {ErrorCode::kNoMemory,
            fmt::format("no memory left{}: --max-memory allows {}", where, bytes_text(options.max_memory_bytes)),
            "allow more, or analyse a core on a machine that has more (heapcore capture)"};
  }
  return {ErrorCode::kNoMemory, fmt::format("no memory left{}", where),
          "free memory, raise the limit on address space (ulimit -v), or analyse a core on a machine that has more "
          "(heapcore capture)"};
}

ExitStatus answer_command(const Options& options, Progress& progress, Timings& timings);

}  // namespace

ExitStatus refuse(const Error& error, Progress& progress) {
  progress.end();
  fmt::print(stderr, "heapcore: {}\n", error.message);
  if (!error.hint.empty()) fmt::print(stderr, "{}\n", error.hint);
  return error.code == ErrorCode::kUsage ? ExitStatus::kUsage : ExitStatus::kUnreadable;
}

bool write_answer(const std::string& text) {
  OutputFile out("");
  return out.open() && out.write(text);
}

ExitStatus run_command(const Options& options, Progress& progress) {
  Timings timings;
  try {
    if (options.command == "capture") return run_capture(options, progress, timings);
    if (options.command == "watch") return run_watch(options, progress, timings);
    return answer_command(options, progress, timings);
  } catch (const std::bad_alloc&) {
    return refuse(out_of_memory(options, timings), progress);
  } catch (const std::runtime_error& error) {
    return refuse({ErrorCode::kNoMemory, fmt::format("the system refused a resource: {}", error.what()),
                   "raise --max-memory if it was given, or the limit on processes (ulimit -u)"},
                  progress);
  }
}

namespace {

ExitStatus answer_command(const Options& options, Progress& progress, Timings& timings) {
  OutputFile output(options.output);
  if (!output.open()) return ExitStatus::kUnreadable;
  TargetName target = options.target;
  // These do not show malloc's layout, so they need not know where it comes from.
  const std::string_view kWithoutMalloc[] = {"types",   "pymalloc", "show", "refs", "retained", "cycles", "paths",
                                             "threads", "audit",    "map",  "pins", "waste",    "trace"};
  if (std::find(std::begin(kWithoutMalloc), std::end(kWithoutMalloc), options.command) != std::end(kWithoutMalloc))
    target.malloc_layout = LayoutSource::kTables;
  // Verifying compares with the DWARF of the exact build, where it is at hand.
  if (options.command == "verify") target.python_layout = PyLayoutSource::kDebugFileFirst;
  Result<Process> process = open_target(target, progress, timings);
  if (!process) return refuse(process.error(), progress);
  if (!options.chunks.empty()) {
    progress.end();
    const Result<ExitStatus> status = stream_chunks(options, *process, timings);
    if (!status) return refuse(status.error(), progress);
    if (options.timings) fmt::print(stderr, "{}", timings_text(timings));
    return *status;
  }
  Command command(options, progress, *process, timings);
  Answer answer = command.run();
  if (command.failed()) return refuse(*command.failed(), progress);
  process->findings.sort();
  const bool json = options.writes_json();
  std::string text = std::move(answer.text);
  timings.time("render", [&] {
    if (!json) return;
    Json document = document_head(options.command, *process);
    document.update(answer.json);
    // A name in the target may be no UTF-8; JSON must be.
    text = document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  });
  progress.end();
  const bool written = output.write(text);
  // The report and verify have a section of their own for them, and so has JSON.
  if (!json && options.command != "report" && options.command != "verify")
    fmt::print(stderr, "{}", warnings_text(process->findings));
  if (options.timings) {
    fmt::print(stderr, "{}", timings_text(timings));
    const TargetInfo& info = process->snapshot.info;
    if (info.pause_seconds != 0)
      fmt::print(stderr, "process {} stood still for {:.1f} ms\n", info.pid, info.pause_seconds * 1000);
  }
  if (!written) return ExitStatus::kUnreadable;
  for (const std::string& reason : command.reasons()) fmt::print(stderr, "{}\n", reason);
  if (!command.reasons().empty()) return ExitStatus::kConditionHeld;
  return process->findings.incomplete() ? ExitStatus::kIncomplete : ExitStatus::kAnswered;
}

}  // namespace

}  // namespace heapcore

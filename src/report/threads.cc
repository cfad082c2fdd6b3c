#include <fmt/format.h>

#include "report/format.h"
#include "report/holder_answers.h"
#include "report/json_parts.h"
#include "report/text_parts.h"

namespace heapcore {
namespace {

Json address_or_null(Addr address) {
  return address == 0 ? Json(nullptr) : Json(address_text(address));
}

Json frame_json(const StackFrame& frame) {
  Json entry = {{"kind", frame.is_python ? "python" : "native"},
                {"function", text_or_null(frame.function)},
                {"file", text_or_null(frame.file)},
                {"line", frame.line == 0 ? Json(nullptr) : Json(frame.line)},
                {"address", address_text(frame.address)}};
  if (!frame.is_python) return entry;
  entry["retained_bytes"] = frame.retained_bytes;
  entry["locals"] = Json::array();
  for (const FrameLocal& local : frame.locals) {
    entry["locals"].push_back({{"name", local.name},
                               {"address", address_text(local.address)},
                               {"type", text_or_null(local.type)},
                               {"bytes", local.bytes},
                               {"retained_bytes", local.retained_bytes},
                               {"held_here_only", local.held_here_only},
                               {"held_by_caller", local.held_by_caller}});
  }
  return entry;
}

std::string frame_line(const StackFrame& frame) {
  if (!frame.is_python) {
    return fmt::format("  {:>10}  {} {}\n", "",
                       frame.function.empty() ? address_text(frame.address) : printable(frame.function),
                       frame.file.empty() ? "" : fmt::format("[{}]", printable(frame.file)));
  }
  std::string text =
      fmt::format("  {:>10}  {} ({}:{})\n", frame.retained_bytes == 0 ? "" : bytes_text(frame.retained_bytes),
                  printable(frame.function), printable(frame.file), frame.line);
  for (const FrameLocal& local : frame.locals) {
    const std::string held = local.held_here_only   ? fmt::format("retains {}", bytes_text(local.retained_bytes))
                             : local.held_by_caller ? "held by a caller too"
                                                    : "held elsewhere too";
    text += fmt::format("  {:>10}    {} = {} at {}, {}\n", "", printable(local.name),
                        local.type.empty() ? "object" : printable(local.type), address_text(local.address), held);
  }
  return text;
}

std::string thread_heading(const ThreadRow& thread) {
  std::string text = thread.tid == 0 ? "Thread state without a thread" : fmt::format("Thread {}", thread.tid);
  if (!thread.name.empty()) text += " " + printable(thread.name);
  if (!thread.python_name.empty()) text += fmt::format(", \"{}\"", printable(thread.python_name));
  if (thread.state == 0) text += ", not Python's";
  if (thread.interpreter != 0) text += fmt::format(", interpreter {}", thread.interpreter);
  return text;
}

}  // namespace

Json threads_json(const ThreadsAnswer& answer) {
  Json threads = Json::array();
  for (const ThreadRow& thread : answer.threads) {
    Json frames = Json::array();
    for (const StackFrame& frame : thread.frames) frames.push_back(frame_json(frame));
    threads.push_back({{"tid", thread.tid == 0 ? Json(nullptr) : Json(thread.tid)},
                       {"name", text_or_null(thread.name)},
                       {"python_name", text_or_null(thread.python_name)},
                       {"state", address_or_null(thread.state)},
                       {"interpreter", thread.state == 0 ? Json(nullptr) : Json(thread.interpreter)},
                       {"cut_short", text_or_null(thread.cut_short)},
                       {"frames", std::move(frames)}});
  }
  Json tasks = Json::array();
  for (const TaskRow& task : answer.tasks) {
    tasks.push_back({{"address", address_text(task.address)},
                     {"name", text_or_null(task.name)},
                     {"state", task.state},
                     {"coroutine", address_or_null(task.coroutine)},
                     {"function", task.place ? Json(task.place->function) : Json(nullptr)},
                     {"file", task.place ? Json(task.place->file) : Json(nullptr)},
                     {"line", task.place ? Json(task.place->line) : Json(nullptr)},
                     {"waits_for", address_or_null(task.waits_for)},
                     {"waits_for_type", text_or_null(task.waits_for_type)},
                     {"retained_bytes", task.retained_bytes}});
  }
  return {{"threads", std::move(threads)}, {"tasks", std::move(tasks)}, {"tasks_ended", answer.tasks_ended}};
}

std::string threads_text(const ThreadsAnswer& answer, const TextStyle& style) {
  std::string text;
  for (const ThreadRow& thread : answer.threads) {
    text += heading(thread_heading(thread), style);
    for (const StackFrame& frame : thread.frames) text += frame_line(frame);
    if (!thread.cut_short.empty()) text += fmt::format("  (native frames end here: {})\n", printable(thread.cut_short));
  }
  if (answer.tasks.empty() && answer.tasks_ended == 0) return text;
  text += heading(
      fmt::format("asyncio: {} pending, {} ended", counted(answer.tasks.size(), "task"), answer.tasks_ended), style);
  TextTable table({{"retained", Align::kRight},
                   {"address", Align::kLeft},
                   {"name", Align::kLeft},
                   {"stands in", Align::kLeft},
                   {"waits for", Align::kLeft}});
  const std::size_t shown = style.limit == 0 ? answer.tasks.size() : std::min(answer.tasks.size(), style.limit);
  for (std::size_t i = 0; i < shown; ++i) {
    const TaskRow& task = answer.tasks[i];
    table.add({bytes_text(task.retained_bytes), address_text(task.address), printable(task.name),
               task.place ? printable(task.place->text()) : "", printable(task.waits_for_type)});
  }
  text += table.text("  ");
  if (shown < answer.tasks.size())
    text += fmt::format("  ({} more; --limit 0 shows all)\n", count_text(answer.tasks.size() - shown));
  return text;
}

}  // namespace heapcore

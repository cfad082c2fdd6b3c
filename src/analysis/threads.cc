#include "analysis/threads.h"

#include <algorithm>
#include <charconv>
#include <map>

#include "analysis/frame_holdings.h"
#include "coreparse/native_stack.h"
#include "pyobj/frames.h"
#include "pyobj/strings.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kMaxNameLength = 256;

// A PyThreadState.
struct PyThread {
  Addr state = 0;
  std::int64_t interpreter = 0;
  std::uint64_t ident = 0;  // pthread_self(), which glibc makes the thread pointer
  std::uint64_t native_id = 0;
  std::string name;
};

class ThreadsFinder {
 public:
  ThreadsFinder(const Process& process, const Holders& holders, bool values, Findings& findings)
      : process_(process),
        runtime_(*process.runtime()),
        holders_(holders),
        findings_(findings),
        reader_(process.snapshot.space),
        references_(process.snapshot, runtime_, *holders.graph.census.types),
        values_(process.snapshot, runtime_, *holders.graph.census.types, {values, 0}, findings),
        sizes_(process, holders.graph),
        objects_(process.snapshot, runtime_.traits, *holders.graph.census.types),
        unwinder_(process.snapshot),
        holdings_(process, holders.graph) {}

  ThreadsAnswer run() {
    ThreadsAnswer answer;
    std::vector<PyThread> states = python_threads();
    for (const Thread& thread : process_.snapshot.threads) {
      const auto state = std::ranges::find_if(states, [&](const PyThread& each) { return is_same(each, thread); });
      ThreadRow row;
      row.tid = thread.tid;
      row.name = thread.name;
      const NativeStack native = unwinder_.unwind(thread);
      row.cut_short = native.cut_short;
      if (state != states.end()) {
        describe(*state, row);
        row.frames = merge(native, python_runs(state->state));
        states.erase(state);
      } else {
        row.frames = merge(native, {});
      }
      answer.threads.push_back(std::move(row));
    }
    for (const PyThread& state : states) {
      ThreadRow row;
      describe(state, row);
      row.frames = merge({}, python_runs(state.state));
      answer.threads.push_back(std::move(row));
    }
    add_tasks(answer);
    return answer;
  }

 private:
  struct Run {
    std::vector<StackFrame> frames;
    Addr on_stack = 0;  // as EvaluationRun has it
  };

  static void describe(const PyThread& state, ThreadRow& row) {
    row.state = state.state;
    row.interpreter = state.interpreter;
    row.python_name = state.name;
  }

  static bool is_same(const PyThread& state, const Thread& thread) {
    if (state.native_id != 0) return state.native_id == static_cast<std::uint64_t>(thread.tid);
    return state.ident != 0 && state.ident == thread.thread_pointer;
  }

  std::uint64_t word(Addr base, const Field& field) {
    std::uint64_t value = 0;
    if (base != 0 && field.present()) reader_.try_load(base + field.offset, value);
    return value;
  }

  std::vector<PyThread> python_threads() {
    const auto& fields = runtime_.traits.layout->PyThreadState;
    std::vector<PyThread> threads;
    for (const Interpreter& interpreter : runtime_.interpreters) {
      const std::map<std::uint64_t, std::string> names = names_in(interpreter);
      for (const Addr state : thread_states(reader_, runtime_, interpreter)) {
        PyThread thread{state, interpreter.id, word(state, fields.thread_id), word(state, fields.native_thread_id), {}};
        if (const auto name = names.find(thread.ident); name != names.end()) thread.name = name->second;
        threads.push_back(std::move(thread));
      }
    }
    return threads;
  }

  // threading._active: Thread objects by ident.
  std::map<std::uint64_t, std::string> names_in(const Interpreter& interpreter) {
    const PyLayout& layout = *runtime_.traits.layout;
    const Addr sysdict = word(interpreter.address, layout.PyInterpreterState.sysdict);
    const auto modules = dict_get(reader_, runtime_.traits, sysdict, "modules");
    const auto threading = modules ? dict_get(reader_, runtime_.traits, *modules, "threading") : std::nullopt;
    const Addr dict = threading ? word(*threading, layout.PyModuleObject.md_dict) : 0;
    const auto active = dict != 0 ? dict_get(reader_, runtime_.traits, dict, "_active") : std::nullopt;
    std::map<std::uint64_t, std::string> names;
    if (!active) return names;
    for (const auto& [key, thread] : dict_items(reader_, runtime_.traits, *active)) {
      const std::string digits = values_.text(key);
      std::uint64_t ident = 0;
      if (std::from_chars(digits.data(), digits.data() + digits.size(), ident).ec != std::errc()) continue;
      for (const ValuePart& part : values_.describe(thread).attributes) {
        if (part.name != "_name" && part.name != "_Thread__name") continue;  // of 2.7
        if (const auto name = decode_str(reader_, runtime_.traits, part.address, kMaxNameLength)) names[ident] = *name;
      }
    }
    return names;
  }

  std::vector<Run> python_runs(Addr state) {
    std::vector<Run> runs;
    for (const EvaluationRun& run : frames_by_evaluation(reader_, runtime_.traits, state)) {
      runs.push_back({{}, run.on_stack});
      for (const Addr frame : run.frames) runs.back().frames.push_back(python_frame(frame));
    }
    return runs;
  }

  StackFrame python_frame(Addr address) {
    StackFrame frame;
    frame.is_python = true;
    frame.address = address;
    frame.retained_bytes = holdings_.bytes(address);
    if (const auto place = values_.place_of_frame(address)) {
      frame.function = place->function;
      frame.file = place->file;
      frame.line = place->line;
    } else {
      findings_.add({"frame-unreadable", Room::kAnalysis, address,
                     "a Python frame's code is not there; what called it is not known"});
    }
    const auto visit = [&](Addr target, RefKind kind, const EdgeName& edge) {
      if (kind != RefKind::kWeak && edge.what == What::kLocal) add_local(frame, target, edge);
    };
    const NodeId node = frames_are_objects(runtime_.traits) ? holders_.graph.blocks.find_object(address) : kNoNode;
    if (node != kNoNode) {
      const ObjectView view = holders_.graph.view(node);
      references_.for_each(view, visit, holders_.graph.blocks.end_of(view, node));
    } else if (!frames_are_objects(runtime_.traits)) {
      references_.for_each_in_frame(address, visit);
    }
    return frame;
  }

  void add_local(StackFrame& frame, Addr target, const EdgeName& edge) {
    FrameLocal local;
    local.name = edge_text(reader_, runtime_.traits, edge, ShownKeys::kNames);
    if (local.name.starts_with("local ")) local.name.erase(0, 6);
    local.address = target;
    const NodeId node = holders_.graph.blocks.find_object(target);
    if (ObjectView object; node == kNoNode && objects_.at(target, object)) {  // a static one
      const TypeInfo& type = holders_.graph.census.types->shared_info(object.type.id);
      local.type = type.module + "." + type.name;
      local.bytes = objects_.size_of(object, objects_.reader().span_to_end(target));
    }
    if (node != kNoNode) {
      local.type = holders_.graph.type_name(node);
      local.bytes = sizes_.of(node);
      local.retained_bytes = holders_.retained.bytes[node];
      const FrameHolder holder = holdings_.holder(node, frame.address);
      local.held_here_only = holder == FrameHolder::kFrameAlone;
      local.held_by_caller = holder == FrameHolder::kCaller;
    }
    frame.locals.push_back(std::move(local));
  }

  // Which native frames are those of the loop that runs Python code, one for each run; fewer if not all are found. The
  // loop's variables tell them, or, where none is known, the function's name.
  static std::vector<std::size_t> evaluations(const std::vector<NativeFrame>& native, const std::vector<Run>& runs) {
    std::vector<std::size_t> found;
    const bool by_variables = std::ranges::all_of(runs, [](const Run& run) { return run.on_stack != 0; });
    for (std::size_t i = 0; i < native.size() && found.size() <= runs.size(); ++i) {
      const NativeFrame& frame = native[i];
      const bool is_one =
          by_variables
              ? found.size() < runs.size() && i + 1 < native.size() && frame.sp != 0 &&
                    runs[found.size()].on_stack >= frame.sp && runs[found.size()].on_stack < native[i + 1].sp
              : frame.function.starts_with("_PyEval_EvalFrameDefault") || frame.function == "PyEval_EvalFrameEx";
      if (is_one) found.push_back(i);
    }
    return found;
  }

  static std::vector<StackFrame> merge(const NativeStack& native, std::vector<Run> runs) {
    std::vector<StackFrame> merged;
    const auto add_run = [&](Run& run) {
      merged.insert(merged.end(), std::make_move_iterator(run.frames.begin()),
                    std::make_move_iterator(run.frames.end()));
    };
    std::vector<std::size_t> loops = evaluations(native.frames, runs);
    if (loops.size() != runs.size()) {
      loops.clear();
      std::ranges::for_each(runs, add_run);
    }
    std::size_t next = 0;
    for (std::size_t i = 0; i < native.frames.size(); ++i) {
      if (next < loops.size() && loops[next] == i) {
        add_run(runs[next++]);
        continue;
      }
      StackFrame row;
      row.address = native.frames[i].pc;
      row.function = native.frames[i].function;
      row.file = native.frames[i].module;
      merged.push_back(std::move(row));
    }
    return merged;
  }

  void add_tasks(ThreadsAnswer& answer) {
    const BlockTable& blocks = holders_.graph.blocks;
    TypeTable& types = *holders_.graph.census.types;
    for (NodeId node = 0; node < blocks.objects(); ++node) {
      if (types.shared_info(blocks.type(node)).kind != Kind::kTask) continue;
      TaskRow row;
      row.address = blocks.address(node);
      row.retained_bytes = holders_.retained.bytes[node];
      for (const ValuePart& field : values_.describe(row.address).fields) {
        if (field.name == "name") row.name = field.text;
        if (field.name == "state") row.state = field.text;
        if (field.name == "coroutine") row.coroutine = field.address;
        if (field.name == "waits for") row.waits_for = field.address;
      }
      if (row.state != "pending") {
        ++answer.tasks_ended;
        continue;
      }
      if (row.coroutine != 0) row.place = values_.place_inside(row.coroutine);
      const NodeId awaited = blocks.find_object(row.waits_for);
      if (awaited != kNoNode) row.waits_for_type = holders_.graph.type_name(awaited);
      if (awaited == kNoNode) row.waits_for = 0;
      answer.tasks.push_back(std::move(row));
    }
  }

  const Process& process_;
  const PyRuntime& runtime_;
  const Holders& holders_;
  Findings& findings_;
  Reader reader_;
  ReferenceReader references_;
  ValueReader values_;
  NodeSizes sizes_;
  ObjectReader objects_;
  NativeUnwinder unwinder_;
  FrameHoldings holdings_;
};

}  // namespace

ThreadsAnswer find_threads(const Process& process, const Holders& holders, bool values, Findings& findings) {
  return ThreadsFinder(process, holders, values, findings).run();
}

}  // namespace heapcore

#include "pyobj/interpreters.h"

#include <algorithm>

#include "coreparse/code.h"
#include "pyobj/static_types.h"

namespace heapcore {
namespace {

constexpr std::size_t kMaxInterpreters = 10000;

class InterpreterFinder {
 public:
  InterpreterFinder(const Snapshot& snapshot, RuntimeSearch& search, const Module& module, PyRuntime& runtime,
                    Findings& findings)
      : snapshot_(snapshot),
        reader_(snapshot.space),
        search_(search),
        module_(module),
        runtime_(runtime),
        traits_(runtime.traits),
        layout_(*runtime.traits.layout),
        findings_(findings) {}

  bool run() {
    const std::optional<Addr> head = find_head();
    if (!head) return false;
    find_shared_gc();
    read_list(*head);
    if (runtime_.interpreters.empty()) {
      report("python-not-initialised", *head, "the runtime has no interpreter: not yet initialised, or finalised");
      return true;
    }
    // One may be idle, but not all.
    const auto threaded = [&](const Interpreter& interpreter) { return has_threads(interpreter.address); };
    if (std::ranges::none_of(runtime_.interpreters, threaded)) {
      report("python-interpreter-damaged", runtime_.interpreters[0].address,
             "no interpreter has a thread; their states may not be as this heapcore takes them to be");
    }
    verify_static_types(runtime_.interpreters.back().address);
    return true;
  }

 private:
  void report(std::string_view code, Addr address, std::string detail) {
    findings_.add({code, Room::kPyobj, address, std::move(detail)});
  }

  std::optional<Addr> symbol(std::string_view name) {
    const std::optional<Symbol> found = module_.symbol(name, snapshot_.space);
    if (!found) return std::nullopt;
    return found->address;
  }

  // The head of the list of interpreters, a variable of _PyRuntime or, to 3.6, a static one that one exported function
  // returns; else the variable that has a list of interpreters behind it.
  std::optional<Addr> find_head() {
    const std::uint64_t offset = layout_._PyRuntimeState.interpreters_head.offset;
    if (traits_.gc_home == GcHome::kStatic) {
      runtime_.located_by = "code of PyInterpreterState_Head";
      if (const auto head = head_by_code()) return head;
    } else if (runtime_.state != 0) {
      return runtime_.state + offset;
    }
    const auto verify = [&](Addr at) { return verify_interpreter(at); };
    const auto head = search_.find_interpreters_head(module_, traits_, runtime_.type_type, verify);
    if (!head) return std::nullopt;
    runtime_.located_by = "structure";
    if (traits_.gc_home != GcHome::kStatic) runtime_.state = *head - offset;
    return head;
  }

  std::optional<Addr> head_by_code() {
    const auto function = symbol("PyInterpreterState_Head");
    if (!function) return std::nullopt;
    for (const CodeRef& reference : code_references(reader_, *function, 4)) {
      if (reference.kind == CodeRefKind::kLoad && reference.width_bytes == 8) return reference.target;
    }
    return std::nullopt;
  }

  void read_list(Addr head) {
    Addr at = 0;
    reader_.try_load(head, at);
    while (at != 0 && runtime_.interpreters.size() < kMaxInterpreters) {
      const bool seen =
          std::ranges::any_of(runtime_.interpreters, [&](const Interpreter& earlier) { return earlier.address == at; });
      const std::optional<Interpreter> interpreter = seen ? std::nullopt : read_interpreter(at);
      if (!interpreter) {
        report("python-interpreter-damaged", at, "an interpreter's state does not verify; it is left out");
        return;
      }
      runtime_.interpreters.push_back(*interpreter);
      if (traits_.gc_home == GcHome::kStatic) runtime_.interpreters.back().gc_collecting = is_collecting();
      if (!reader_.try_load(at + layout_.PyInterpreterState.next.offset, at)) return;
    }
  }

  // Where interpreters keep the state of static types, `type` has one in each.
  void verify_static_types(Addr interpreter) {
    if (!layout_.PyInterpreterState.types_builtins.present()) return;
    if (static_type_state(reader_, layout_, interpreter, runtime_.type_type)) return;
    report("python-static-types-missing", interpreter,
           "the state of static types is not where this version's builds have it; what their dicts tell is left out");
  }

  // To 3.8 there is one collector for all interpreters.
  void find_shared_gc() {
    if (traits_.gc_home == GcHome::kInterpreter) return;
    Addr generations = 0;
    if (traits_.gc_home == GcHome::kRuntime) {
      generations = runtime_.state + layout_._PyRuntimeState.gc_generations.offset;
      runtime_.shared_permanent = runtime_.state + layout_._PyRuntimeState.gc_permanent_generation.offset;
    } else if (const auto pointer = symbol("_PyGC_generation0")) {
      reader_.try_load(*pointer, generations);
    } else {
      generations = search_.find_generations(module_, traits_, runtime_.type_type).value_or(0);
    }
    if (generations == 0 || !verify_gc_heads(generations)) {
      runtime_.shared_permanent = 0;
      report("python-gc-not-found", generations, "the collector's generations were not found, or do not verify");
      return;
    }
    runtime_.shared_generations = generations;
  }

  bool has_threads(Addr interpreter) {
    Addr thread = 0;
    return reader_.try_load(interpreter + layout_.PyInterpreterState.threads_head.offset, thread) && thread != 0;
  }

  // Its threads are its own, and the collector's rings in it close.
  bool verify_interpreter(Addr address) {
    Addr thread = 0;
    Addr owner = 0;
    if (!reader_.try_load(address + layout_.PyInterpreterState.threads_head.offset, thread)) return false;
    if (thread != 0 && (!reader_.try_load(thread + layout_.PyThreadState.interp.offset, owner) || owner != address)) {
      return false;
    }
    return traits_.gc_home != GcHome::kInterpreter || traits_.gc_head == GcHead::kNone ||
           verify_gc_heads(address + layout_.PyInterpreterState.gc_generations.offset);
  }

  // Where the collector's variables are static, PyGC_Collect first looks whether it is running already.
  bool is_collecting() {
    constexpr std::uint32_t kMaxInstructions = 8;
    const auto function = symbol("PyGC_Collect");
    if (!function) return false;
    for (const CodeRef& reference : code_references(reader_, *function, kMaxInstructions)) {
      const bool read = reference.kind == CodeRefKind::kLoad || reference.kind == CodeRefKind::kCompare;
      std::int32_t collecting = 0;
      if (read && reference.width_bytes == 4) return reader_.try_load(reference.target, collecting) && collecting == 1;
    }
    return false;
  }

  std::optional<Interpreter> read_interpreter(Addr address) {
    const auto& fields = layout_.PyInterpreterState;
    if (!verify_interpreter(address)) return std::nullopt;
    Interpreter interpreter;
    interpreter.address = address;
    if (fields.id.present() && !reader_.try_load(address + fields.id.offset, interpreter.id)) return std::nullopt;
    std::int32_t enabled = 0;
    std::int32_t collecting = 0;
    if (traits_.gc_home == GcHome::kRuntime) {
      reader_.try_load(runtime_.state + layout_._PyRuntimeState.gc_enabled.offset, enabled);
      reader_.try_load(runtime_.state + layout_._PyRuntimeState.gc_collecting.offset, collecting);
    } else if (traits_.gc_home == GcHome::kInterpreter &&
               (!reader_.try_load(address + fields.gc_enabled.offset, enabled) ||
                !reader_.try_load(address + fields.gc_collecting.offset, collecting))) {
      return std::nullopt;
    }
    interpreter.gc_enabled = enabled != 0;
    interpreter.gc_collecting = collecting != 0;
    return interpreter;
  }

  // Each generation's ring: the first member points back at the head. Flags are in the two low bits.
  bool verify_gc_heads(Addr generations) {
    const auto& fields = layout_.PyGC_Head;
    for (std::uint64_t i = 0; i < 3; ++i) {
      const Addr head = generations + i * layout_.gc_generation.size_bytes;
      Addr first = 0;
      Addr back = 0;
      if (!reader_.try_load(head + fields._gc_next.offset, first) || first == 0) return false;
      // A member that the snapshot lacks proves nothing either way, nor does one that is being collected (bit 1).
      const bool read = reader_.try_load(align_down(first, 4) + fields._gc_prev.offset, back);
      if (read && (back & 2) == 0 && align_down(back, 4) != head) return false;
    }
    return true;
  }

  const Snapshot& snapshot_;
  Reader reader_;
  RuntimeSearch& search_;
  const Module& module_;
  PyRuntime& runtime_;
  const PyTraits& traits_;
  const PyLayout& layout_;
  Findings& findings_;
};

}  // namespace

bool find_interpreters(const Snapshot& snapshot, RuntimeSearch& search, const Module& module, PyRuntime& runtime,
                       Findings& findings) {
  return InterpreterFinder(snapshot, search, module, runtime, findings).run();
}

}  // namespace heapcore

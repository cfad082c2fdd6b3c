#include "analysis/root_names.h"

#include <fmt/format.h>

#include "pyobj/frames.h"

namespace heapcore {
namespace {

struct NamedField {
  const Field& field;
  const char* name;
};

const char* name_of(std::initializer_list<NamedField> fields, std::uint64_t offset) {
  for (const NamedField& each : fields) {
    if (each.field.present() && offset - each.field.offset < each.field.width_bytes) return each.name;
  }
  return nullptr;
}

}  // namespace

RootNames::RootNames(const Process& process, TypeTable& types, bool values, Findings& findings)
    : process_(process),
      runtime_(*process.runtime()),
      reader_(process.snapshot.space),
      frames_(process.snapshot, runtime_, types, {values, 0}, findings) {}

std::string RootNames::text(const RootWord& root) {
  switch (root.kind) {
    case RootKind::kFrame:
      return frame_text(root);
    case RootKind::kThread:
      return thread_text(root);
    case RootKind::kInterpreter:
      return interpreter_text(root);
    case RootKind::kRuntime:
      return fmt::format("_PyRuntime+{:#x}", root.place - runtime_.state);
    case RootKind::kStatic:
      return static_text(root);
    case RootKind::kStack:
      return stack_text(root);
    case RootKind::kImmortal:
      return "<immortal>";
    case RootKind::kUnexplained:
      return "<held by something that was not found>";
    case RootKind::kUnreachable:
      return "<unreachable>";
  }
  return "";
}

// "local x in f (file:line)"; of a frame that is an object, only where it is: its edges name the locals.
std::string RootNames::frame_text(const RootWord& root) {
  const std::optional<FramePlace> place = frames_.place_of_frame(root.place);
  const std::string where = place ? place->text() : fmt::format("a frame at {:#x}", root.place);
  if (root.target == root.place) return where;
  return fmt::format("{} in {}", edge_text(reader_, runtime_.traits, root.edge, ShownKeys::kNames), where);
}

std::string RootNames::interpreter_text(const RootWord& root) const {
  const auto& fields = runtime_.traits.layout->PyInterpreterState;
  for (const Interpreter& interpreter : runtime_.interpreters) {
    const std::uint64_t offset = root.place - interpreter.address;
    if (offset >= fields.size_bytes) continue;
    const char* name = name_of({{fields.modules, "sys.modules"},
                                {fields.imports_modules, "sys.modules"},
                                {fields.sysdict, "sys.__dict__"},
                                {fields.builtins, "builtins.__dict__"},
                                {fields.builtins_copy, "builtins_copy"},
                                {fields.modules_by_index, "modules_by_index"},
                                {fields.imports_importlib, "importlib"},
                                {fields.import_func, "import_func"},
                                {fields.dict, "interpreter dict"},
                                {fields.codec_search_path, "codecs.search_path"},
                                {fields.codec_search_cache, "codecs.search_cache"},
                                {fields.codec_error_registry, "codecs.error_registry"},
                                {fields.codecs_search_path, "codecs.search_path"},
                                {fields.codecs_search_cache, "codecs.search_cache"},
                                {fields.codecs_error_registry, "codecs.error_registry"},
                                {fields.atexit_callbacks, "atexit callbacks"},
                                {fields.pyexitmodule, "atexit"},
                                {fields.before_forkers, "os.register_at_fork before"},
                                {fields.after_forkers_parent, "os.register_at_fork after_in_parent"},
                                {fields.after_forkers_child, "os.register_at_fork after_in_child"},
                                {fields.gc_garbage, "gc.garbage"},
                                {fields.interned_strings, "interned strings"},
                                {fields.types_builtins, "builtin types"},
                                {fields.types_for_extensions, "static types of extensions"},
                                {fields.static_objects, "static objects"},
                                {fields.audit_hooks, "audit hooks"},
                                {fields.context_watchers, "context watchers"}},
                               offset);
    const std::string text = name != nullptr ? name : fmt::format("interpreter state +{:#x}", offset);
    return interpreter.address == runtime_.interpreters.front().address
               ? text
               : fmt::format("interpreter {}: {}", interpreter.id, text);
  }
  return "interpreter state";
}

std::string RootNames::thread_text(const RootWord& root) {
  const PyLayout& layout = *runtime_.traits.layout;
  const auto& fields = layout.PyThreadState;
  const auto& more = layout._PyThreadStateImpl;
  for (const Interpreter& interpreter : runtime_.interpreters) {
    for (const Addr thread : thread_states(reader_, runtime_, interpreter)) {
      const std::uint64_t offset = root.place - thread;
      if (offset >= std::max(fields.size_bytes, more.size_bytes)) continue;
      const char* name = name_of({{fields.dict, "dict"},
                                  {fields.curexc_type, "raised exception's type"},
                                  {fields.curexc_value, "raised exception"},
                                  {fields.curexc_traceback, "raised exception's traceback"},
                                  {fields.current_exception, "raised exception"},
                                  {fields.exc_state_type, "handled exception's type"},
                                  {fields.exc_state_value, "handled exception"},
                                  {fields.exc_state_traceback, "handled exception's traceback"},
                                  {fields.exc_type, "handled exception's type"},
                                  {fields.exc_value, "handled exception"},
                                  {fields.exc_traceback, "handled exception's traceback"},
                                  {fields.c_profileobj, "profile function"},
                                  {fields.c_traceobj, "trace function"},
                                  {fields.async_exc, "asynchronous exception"},
                                  {fields.context, "context"},
                                  {fields.async_gen_firstiter, "async_gen_firstiter"},
                                  {fields.async_gen_finalizer, "async_gen_finalizer"},
                                  {more.asyncio_running_loop, "running asyncio loop"},
                                  {more.asyncio_running_task, "running asyncio task"}},
                                 offset);
      return fmt::format("{}: {}", thread_name(thread), name != nullptr ? name : fmt::format("state +{:#x}", offset));
    }
  }
  return "thread state";
}

// As the native thread is called, where it is known.
std::string RootNames::thread_name(Addr state) {
  const auto& fields = runtime_.traits.layout->PyThreadState;
  const auto field = [&](const Field& at) {
    std::uint64_t value = 0;
    if (at.present()) reader_.try_load(state + at.offset, value);
    return value;
  };
  const std::uint64_t native_id = field(fields.native_thread_id);
  const std::uint64_t ident = field(fields.thread_id);  // what glibc makes the thread pointer
  for (const Thread& thread : process_.snapshot.threads) {
    if (native_id != 0 ? native_id == static_cast<std::uint64_t>(thread.tid) : ident == thread.thread_pointer)
      return fmt::format("thread {}{}", thread.tid, thread.name.empty() ? "" : " " + thread.name);
  }
  return fmt::format("thread state {:#x}", state);
}

std::string RootNames::static_text(const RootWord& root) const {
  const Mapping* mapping = process_.snapshot.mapping_at(root.place);
  const Module* module = mapping == nullptr ? nullptr : process_.snapshot.owner_of(*mapping);
  if (module == nullptr) return fmt::format("static word {:#x}", root.place);
  const std::string symbol = module->symbol_at(root.place);
  if (!symbol.empty()) return fmt::format("static {} in {}", symbol, module->name());
  return fmt::format("static {}+{:#x}", module->name(), root.place - module->range.start);
}

std::string RootNames::stack_text(const RootWord& root) const {
  for (const Thread& thread : process_.snapshot.threads) {
    const std::string name = fmt::format("thread {}{}", thread.tid, thread.name.empty() ? "" : " " + thread.name);
    if (root.place == 0) {
      for (const std::uint64_t word : thread.user_regs) {
        if (word == root.target) return "a register of " + name;
      }
      continue;
    }
    const StackRanges ranges = stack_ranges(process_.snapshot, thread);
    if (ranges.stack.contains(root.place)) return "native stack of " + name;
    if (ranges.thread_local_data.contains(root.place)) return "thread-local data of " + name;
  }
  return "a native stack";
}

}  // namespace heapcore

#include "pyobj/runtime.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "coreparse/code.h"
#include "pyobj/obmalloc.h"

namespace heapcore {
namespace {

constexpr std::size_t kMaxInterpreters = 10000;

// "python3.11" or "libpython3.11.so.1.0" -> 3.11, patch unknown.
std::optional<PyVersion> version_in_name(std::string_view name) {
  const std::size_t at = name.find("python");
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view digits = name.substr(at + 6);
  unsigned major_version = 0;
  unsigned minor_version = 0;
  const char* end = digits.data() + digits.size();
  const auto [dot, bad_major] = std::from_chars(digits.data(), end, major_version);
  if (bad_major != std::errc() || dot == end || *dot != '.') return std::nullopt;
  const auto [rest, bad_minor] = std::from_chars(dot + 1, end, minor_version);
  if (bad_minor != std::errc() || major_version > 9 || minor_version > 99) return std::nullopt;
  return PyVersion{major_version << 24 | minor_version << 16 | 0xf0, false};
}

class Finder {
 public:
  Finder(const Snapshot& snapshot, Findings& findings)
      : snapshot_(snapshot), reader_(snapshot.space), findings_(findings) {}

  PythonState run() {
    PythonState state;
    const Module* module = find_module();
    if (module == nullptr) return state;
    std::optional<PyVersion> version = find_version(*module);
    if (!version) version = probe_version(*module);
    if (!version) {
      report(findings_, "python-version-unknown", module->range.start,
             fmt::format("{} exports CPython's symbols, but neither does the snapshot say its version nor does its runtime "
                         "have the shape of one that this heapcore knows ({}); name its file with --exe",
                         module->path, supported_text()));
      state.version = "unknown";
      return state;
    }
    state.version = version->text();
    const std::optional<PyTraits> traits = traits_for(*version);
    if (!traits) {
      report(findings_, "python-version-unsupported", module->range.start,
             fmt::format("this is CPython {}, whose objects this heapcore cannot decode (it knows {}); the Python part is "
                         "left out",
                         state.version, supported_text()));
      return state;
    }
    state.runtime = find_runtime(*module, *traits, findings_);
    return state;
  }

 private:
  static std::string supported_text() {
    std::string text;
    for (const PyVersion& version : supported_versions()) text += (text.empty() ? "" : ", ") + version.text();
    return text;
  }

  static void report(Findings& findings, std::string_view code, Addr address, std::string detail) {
    findings.add({code, Room::kPyobj, address, std::move(detail)});
  }

  // The version whose layout the runtime verifies with, if exactly one does.
  std::optional<PyVersion> probe_version(const Module& module) {
    std::optional<PyVersion> found;
    for (const PyVersion& version : supported_versions()) {
      const std::optional<PyTraits> traits = traits_for(version);
      Findings of_attempt;
      if (!traits) continue;
      const std::optional<PyRuntime> runtime = find_runtime(module, *traits, of_attempt);
      if (!runtime || runtime->interpreters.empty() || of_attempt.incomplete()) continue;
      if (found) return std::nullopt;
      found = version;
    }
    if (found) {
      findings_.note("python-version-probed", Room::kPyobj, module.range.start,
                     fmt::format("the snapshot does not say which Python this is; its runtime has the shape of {}",
                                 found->text()));
    }
    return found;
  }

  // The module that holds the interpreter: it exports PyType_Type. libpython before the executable, which may re-export.
  const Module* find_module() {
    const Module* library = snapshot_.module_named("libpython");
    if (library != nullptr && symbol(*library, "PyType_Type")) return library;
    const Module* main = snapshot_.executable();
    if (main != nullptr && symbol(*main, "PyType_Type")) return main;
    for (const Module& module : snapshot_.modules) {
      if (module.name().find("python") != std::string_view::npos && symbol(module, "PyType_Type")) return &module;
    }
    return nullptr;
  }

  std::optional<Addr> symbol(const Module& module, std::string_view name) {
    const std::optional<Symbol> found = module.symbol(name, snapshot_.space);
    if (!found) return std::nullopt;
    return found->address;
  }

  std::optional<PyVersion> find_version(const Module& module) {
    if (const auto address = symbol(module, "Py_Version")) {
      const auto hex = reader_.load<std::uint64_t>(*address);  // const unsigned long Py_Version, 3.11+
      if (hex && *hex >> 24 >= 2 && *hex >> 24 <= 9) return PyVersion{static_cast<std::uint32_t>(*hex), true};
    }
    return version_in_name(module.name());
  }

  std::optional<PyRuntime> find_runtime(const Module& module, const PyTraits& traits, Findings& findings) {
    PyRuntime runtime;
    runtime.traits = traits;
    runtime.module_path = module.path;
    const auto type_type = symbol(module, "PyType_Type");
    if (!type_type || !verify_type_type(*type_type, *traits.layout)) {
      report(findings, "python-type-unverified", type_type.value_or(0),
             "the object at PyType_Type is not a type whose type is itself; the Python part is left out");
      return std::nullopt;
    }
    runtime.type_type = *type_type;
    find_interpreters(module, runtime, findings);
    runtime.arenas = find_arenas(module, traits);
    if (!runtime.arenas) {
      report(findings, "obmalloc-not-found", module.range.start,
             "CPython's small-object allocator was not found; only objects in malloc chunks are counted");
    }
    return runtime;
  }

  bool verify_type_type(Addr address, const PyLayout& layout) {
    Addr type = 0;
    Addr name = 0;
    std::uint64_t flags = 0;
    if (!reader_.try_load(address + layout.PyObject.ob_type.offset, type) || type != address) return false;
    if (!reader_.try_load(address + layout.PyTypeObject.tp_flags.offset, flags)) return false;
    constexpr std::uint64_t kWanted = tp_flag::kTypeSubclass | tp_flag::kHaveGc | tp_flag::kReady;
    if ((flags & kWanted) != kWanted) return false;
    if (!reader_.try_load(address + layout.PyTypeObject.tp_name.offset, name)) return false;
    const std::optional<std::string> text = reader_.c_string(name, 16);
    return !text || *text == "type";  // the name lies in .rodata, which the snapshot may lack
  }

  void find_interpreters(const Module& module, PyRuntime& runtime, Findings& findings) {
    const PyLayout& layout = *runtime.traits.layout;
    std::optional<Addr> address = symbol(module, "_PyRuntime");
    runtime.located_by = "symbol _PyRuntime";
    if (!address) {
      if (const auto section = module.section(".PyRuntime")) address = section->start;
      runtime.located_by = "section .PyRuntime";
    }
    if (!address) {
      runtime.located_by = "symbol PyType_Type";
      report(findings, "python-runtime-not-found", module.range.start,
             "_PyRuntime was not found; interpreters and the collector's lists are unknown");
      return;
    }
    Addr at = 0;
    reader_.try_load(*address + layout._PyRuntimeState.interpreters_head.offset, at);
    while (at != 0 && runtime.interpreters.size() < kMaxInterpreters) {
      const bool seen = std::any_of(runtime.interpreters.begin(), runtime.interpreters.end(),
                                    [&](const Interpreter& earlier) { return earlier.address == at; });
      const std::optional<Interpreter> interpreter = seen ? std::nullopt : read_interpreter(at, layout);
      if (!interpreter) {
        report(findings, "python-interpreter-damaged", at, "an interpreter's state does not verify; it is left out");
        return;
      }
      runtime.interpreters.push_back(*interpreter);
      if (!reader_.try_load(at + layout.PyInterpreterState.next.offset, at)) return;
    }
    if (runtime.interpreters.empty()) {
      report(findings, "python-not-initialised", *address, "the runtime has no interpreter: not yet initialised, or finalised");
    }
  }

  std::optional<Interpreter> read_interpreter(Addr address, const PyLayout& layout) {
    const auto& fields = layout.PyInterpreterState;
    Addr thread = 0;
    Addr owner = 0;
    if (!reader_.try_load(address + fields.threads_head.offset, thread)) return std::nullopt;
    if (thread != 0 && (!reader_.try_load(thread + layout.PyThreadState.interp.offset, owner) || owner != address)) {
      return std::nullopt;
    }
    Interpreter interpreter;
    interpreter.address = address;
    std::int32_t enabled = 0;
    std::int32_t collecting = 0;
    if (!reader_.try_load(address + fields.id.offset, interpreter.id) ||
        !reader_.try_load(address + fields.gc_enabled.offset, enabled) ||
        !reader_.try_load(address + fields.gc_collecting.offset, collecting)) {
      return std::nullopt;
    }
    if (!verify_gc_heads(address, layout)) return std::nullopt;
    interpreter.gc_enabled = enabled != 0;
    interpreter.gc_collecting = collecting != 0;
    return interpreter;
  }

  // Each generation's ring: the first member points back at the head. Flags are in the two low bits.
  bool verify_gc_heads(Addr interpreter, const PyLayout& layout) {
    const auto& fields = layout.PyGC_Head;
    const Addr generations = interpreter + layout.PyInterpreterState.gc_generations.offset;
    for (std::uint64_t i = 0; i < 3; ++i) {
      const Addr head = generations + i * layout.gc_generation.size_bytes;
      Addr first = 0;
      Addr back = 0;
      if (!reader_.try_load(head + fields._gc_next.offset, first)) return false;
      // A member that the snapshot lacks proves nothing either way.
      if (reader_.try_load(align_down(first, 4) + fields._gc_prev.offset, back) && align_down(back, 4) != head) return false;
    }
    return true;
  }

  std::optional<ArenaTable> find_arenas(const Module& module, const PyTraits& traits) {
    const std::optional<Addr> arenas = symbol(module, "arenas");
    const std::optional<Addr> maxarenas = symbol(module, "maxarenas");
    if (arenas && maxarenas) {
      if (auto table = arena_table_at(*arenas, *maxarenas, traits, "symbol arenas")) return table;
    }
    if (auto table = arenas_in_code(module, traits)) return table;
    return arenas_by_structure(module, traits);
  }

  std::optional<ArenaTable> arena_table_at(Addr arenas, Addr maxarenas, const PyTraits& traits, const char* method) {
    ArenaTable table;
    table.located_by = method;
    if (!reader_.try_load(arenas, table.address) || !reader_.try_load(maxarenas, table.count)) return std::nullopt;
    if (!verify_arena_table(reader_, traits, table)) return std::nullopt;
    return table;
  }

  // 3.9 to 3.11: _Py_GetAllocatedBlocks reads one 32-bit variable, maxarenas, and 64-bit ones, of which arenas is the one
  // that verifies (the other is raw_allocated_blocks).
  std::optional<ArenaTable> arenas_in_code(const Module& module, const PyTraits& traits) {
    const auto function = symbol(module, "_Py_GetAllocatedBlocks");
    if (!function) return std::nullopt;
    const std::vector<CodeRef> references = code_references(reader_, *function, 48);
    for (const CodeRef& narrow : references) {
      if (narrow.width_bytes != 4) continue;
      for (const CodeRef& wide : references) {
        if (wide.kind != CodeRefKind::kLoad || wide.width_bytes != 8) continue;
        if (auto table = arena_table_at(wide.target, narrow.target, traits, "code of _Py_GetAllocatedBlocks")) return table;
      }
    }
    return std::nullopt;
  }

  // Any word of the interpreter's writable data that points to something that verifies as an array of arena_objects.
  std::optional<ArenaTable> arenas_by_structure(const Module& module, const PyTraits& traits) {
    for (const Mapping& mapping : snapshot_.mappings) {
      // .bss lies in the anonymous mapping right behind the module's own.
      const bool own = mapping.start >= module.range.start && mapping.start <= module.range.end;
      if (!mapping.writable || !own || mapping.size_bytes() > (64 << 20)) continue;
      Reader table_reader(snapshot_.space);
      for (Addr at = mapping.start; at + 8 <= mapping.end; at += 8) {
        Addr candidate = 0;
        if (!reader_.try_load(at, candidate) || candidate < 4096 || !is_aligned(candidate, 16)) continue;
        const std::uint32_t count = plausible_arena_count(table_reader, traits, candidate);
        ArenaTable table{candidate, count, "structure"};
        if (count != 0 && verify_arena_table(table_reader, traits, table)) return table;
      }
    }
    return std::nullopt;
  }

  const Snapshot& snapshot_;
  Reader reader_;
  Findings& findings_;
};

}  // namespace

PythonState find_python(const Snapshot& snapshot, Findings& findings) { return Finder(snapshot, findings).run(); }

}  // namespace heapcore

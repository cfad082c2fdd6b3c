#include "pyobj/runtime.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "pyobj/arena_search.h"
#include "pyobj/debug_offsets.h"
#include "pyobj/interpreters.h"
#include "pyobj/mimalloc.h"
#include "pyobj/number_blocks.h"
#include "pyobj/runtime_search.h"
#include "pyobj/strings.h"
#include "pyobj/traverse_code.h"

namespace heapcore {
namespace {

class Finder {
 public:
  Finder(const Snapshot& snapshot, Findings& findings, PyLayoutSource source)
      : snapshot_(snapshot), reader_(snapshot.space), search_(snapshot), findings_(findings), source_(source) {}

  PythonState run() {
    PythonState state;
    const Module* module = find_module();
    if (module == nullptr) {
      anchor_ = search_.find_type_type();
      if (!anchor_) {
        state.undetermined = !told_that_there_is_none();
        return state;
      }
      module = &anchor_->module;
    }
    std::optional<PyVersion> version = find_version(*module);
    if (!version) version = probe_version(*module);
    if (!version) {
      report(
          findings_, "python-version-unknown", module->range.start,
          fmt::format(
              "{} holds a CPython, but neither does the snapshot say its version nor does its runtime have the shape "
              "of one that this heapcore knows ({}); name its file with --exe",
              module->path.empty() ? "the process" : module->path, supported_text(is_free_threaded(*module))));
      state.version = "unknown";
      return state;
    }
    version->free_threaded = is_free_threaded(*module);
    state.version = version->text();
    state.free_threaded = version->free_threaded;
    if (candidate_traits(*version).empty()) {
      report(
          findings_, "python-version-unsupported", module->range.start,
          fmt::format("this is {} {}, whose objects this heapcore cannot decode (it knows {}); the Python part is left "
                      "out",
                      state.free_threaded ? "a free-threaded build of CPython" : "CPython", state.version,
                      supported_text(state.free_threaded)));
      return state;
    }
    Attempt attempt = best_attempt(*module, *version);
    if (attempt.runtime && !version->patch_known) {
      if (const auto exact = sys_hexversion(*attempt.runtime)) {
        // Target memory, and so only believed if what it says verifies too.
        Attempt again = best_attempt(*module, *exact);
        if (again.runtime) {
          attempt = std::move(again);
          state.version = exact->text();
        }
      }
    }
    findings_.merge(attempt.findings);
    if (attempt.runtime) report_differing_offsets(*attempt.runtime);
    if (attempt.runtime) note_tracemalloc(*attempt.runtime);
    state.runtime = std::move(attempt.runtime);
    return state;
  }

 private:
  // As sys._xoptions tells; where tracemalloc.start() was called later, nothing does.
  void note_tracemalloc(const PyRuntime& runtime) {
    const Addr dict = sysdict(runtime);
    const auto options = dict == 0 ? std::nullopt : dict_get(reader_, runtime.traits, dict, "_xoptions");
    if (!options || !dict_get(reader_, runtime.traits, *options, "tracemalloc")) return;
    findings_.note("tracemalloc", Room::kPyobj, *options,
                   "the interpreter was started with -X tracemalloc, so heapcore trace says where what is in use was "
                   "allocated; its tables are among malloc's chunks, which hold more for it than the program asked for");
  }

  static std::string supported_text(bool free_threaded) {
    std::string text;
    for (const PyVersion& version : supported_versions(free_threaded))
      text += (text.empty() ? "" : ", ") + version.text();
    return text;
  }

  static void report(Findings& findings, std::string_view code, Addr address, std::string detail) {
    findings.add({code, Room::kPyobj, address, std::move(detail)});
  }

  struct Attempt {
    std::optional<PyRuntime> runtime;
    Findings findings;

    bool complete() const { return runtime && !runtime->interpreters.empty() && !findings.incomplete(); }
  };

  // The first layout with which all verifies; else the likeliest table, with what is wrong with it.
  // DWARF fits whichever version is tried, so it is not asked in order to tell versions apart.
  // REQUIRES: candidate_traits(version) has any.
  Attempt best_attempt(const Module& module, const PyVersion& version, bool with_dwarf = true) {
    std::optional<Attempt> best;
    std::optional<Attempt> likeliest;
    std::optional<Attempt> unsaid;  // all verifies, but that its build is the right one is not said
    const std::optional<bool> exported = exports_debug_build(module);
    const auto complete = [&](const std::vector<LayoutChoice>& choices) {
      for (const LayoutChoice& choice : choices) {
        if (exported && *exported != choice.traits.debug_build) continue;
        Attempt attempt;
        attempt.runtime = find_runtime(module, choice.traits, attempt.findings);
        if (attempt.runtime) attempt.runtime->layout_origin = choice.origin;
        const std::optional<bool> said = exported ? exported : says_debug_build(attempt);
        const bool done = attempt.complete() && said == choice.traits.debug_build;
        std::optional<Attempt>& kept = done ? best : attempt.complete() && !said ? unsaid : likeliest;
        if (!kept) kept = std::move(attempt);
        if (done) return true;
      }
      return false;
    };
    const auto address = runtime_address(module);
    const auto by_tables = [&] { return complete(table_choices(version, reader_, address ? address->first : 0)); };
    const auto by_dwarf = [&] { return with_dwarf && complete(dwarf_choices(version, module)); };
    if (source_ == PyLayoutSource::kDebugFileFirst) {
      if (!by_dwarf()) by_tables();
    } else if (!by_tables()) {
      by_dwarf();
    }
    return std::move(best ? *best : unsaid ? *unsaid : *likeliest);
  }

  // Whether it was built with Py_DEBUG, which implies Py_REF_DEBUG, whose total it then exports. Nothing where symbols
  // cannot be looked up.
  std::optional<bool> exports_debug_build(const Module& module) {
    if (!symbol(module, "PyType_Type")) return std::nullopt;
    return symbol(module, "_Py_RefTotal").has_value();
  }

  // The same, as the sys module says it.
  std::optional<bool> says_debug_build(const Attempt& attempt) {
    const Addr dict = attempt.runtime ? sysdict(*attempt.runtime) : 0;
    if (dict == 0 || !sys_hexversion(*attempt.runtime)) return std::nullopt;
    return dict_get(reader_, attempt.runtime->traits, dict, "gettotalrefcount").has_value();
  }

  // Builds whose layout no table has are read by what they say themselves; worth knowing, for the rest of a layout like
  // that is a table's.
  void report_differing_offsets(const PyRuntime& runtime) {
    const PyLayout* table = py_table(runtime.traits.layout_version);
    if (table == nullptr) return;
    const std::size_t differing = read_debug_offsets(reader_, *table, runtime.state).differing.size();
    if (differing == 0) return;
    findings_.note("python-layout-differs", Room::kPyobj, runtime.state,
                   fmt::format("_Py_DebugOffsets says of {} fields that they lie elsewhere than in CPython {}; {}",
                               differing, runtime.traits.layout_version,
                               runtime.layout_origin.debug_offsets || runtime.layout_origin.dwarf
                                   ? "the runtime verifies with what it says"
                                   : "the runtime verifies only with the table's"));
  }

  // The version with whose layout the runtime verifies, if exactly one does. Where sys.hexversion can be read, it must
  // say the same minor version.
  std::optional<PyVersion> probe_version(const Module& module) {
    std::optional<PyVersion> found;
    for (const PyVersion& version : supported_versions(is_free_threaded(module))) {
      const Attempt attempt = best_attempt(module, version, false);
      if (!attempt.complete()) continue;
      const std::optional<PyVersion> exact = sys_hexversion(*attempt.runtime);
      if (!exact && has_sysdict(*attempt.runtime)) continue;
      if (found) return std::nullopt;
      found = exact.value_or(version);
    }
    if (found) {
      findings_.note(
          "python-version-probed", Room::kPyobj, module.range.start,
          fmt::format("neither Py_Version nor a file's name says which Python this is; its runtime has the shape "
                      "of {}",
                      found->text()));
    }
    return found;
  }

  Addr sysdict(const PyRuntime& runtime) {
    Addr address = 0;
    if (runtime.interpreters.empty()) return 0;
    reader_.try_load(runtime.interpreters.back().address + runtime.traits.layout->PyInterpreterState.sysdict.offset,
                     address);
    return address;
  }

  bool has_sysdict(const PyRuntime& runtime) { return sysdict(runtime) != 0; }

  // What sys.hexversion says, if it is of the minor version that the runtime was read as.
  std::optional<PyVersion> sys_hexversion(const PyRuntime& runtime) {
    const Addr dict = sysdict(runtime);
    const std::optional<Addr> object = dict == 0 ? std::nullopt : dict_get(reader_, runtime.traits, dict, "hexversion");
    const std::optional<std::uint32_t> hex = object ? small_int(reader_, runtime.traits, *object) : std::nullopt;
    if (!hex || *hex >> 16 != runtime.traits.version.hex >> 16) return std::nullopt;
    return PyVersion{*hex, true, runtime.traits.version.free_threaded};
  }

  // By what names it, and what that was. `nothing` where only its contents tell, which version by version are told
  // apart.
  std::optional<std::pair<Addr, const char*>> runtime_address(const Module& module) {
    if (const auto address = symbol(module, "_PyRuntime")) return std::pair(*address, "symbol _PyRuntime");
    if (const auto section = module.section(".PyRuntime")) return std::pair(section->start, "section .PyRuntime");
    if (!cookie_searched_) cookie_ = search_.find_debug_offsets(module);
    cookie_searched_ = true;
    if (cookie_) return std::pair(*cookie_, "cookie of _Py_DebugOffsets");
    return std::nullopt;
  }

  // _Py_DebugOffsets (3.13+), with which _PyRuntime begins: a cookie, the version, and whether the build has no GIL.
  std::optional<std::array<std::uint64_t, 3>> debug_offsets_head(const Module& module) {
    const auto address = runtime_address(module);
    std::array<std::uint64_t, 3> words{};
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (!address || !reader_.try_load(address->first + i * 8, words[i])) return std::nullopt;
    }
    return words[0] == kDebugOffsetsCookie ? std::optional(words) : std::nullopt;
  }

  bool is_free_threaded(const Module& module) {
    const auto words = debug_offsets_head(module);
    return words && (*words)[2] != 0;
  }

  // The module that holds the interpreter: it exports PyType_Type. libpython before the executable, which may
  // re-export.
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

  // Where the main program's symbols, and those of whatever is called after Python, could be looked at. If not: a
  // finding.
  bool told_that_there_is_none() {
    const Module* main = snapshot_.executable();
    const Module* silent = main != nullptr && !main->tells_symbols(snapshot_.space) ? main : nullptr;
    for (const Module& module : snapshot_.modules) {
      const bool suspect = module.name().find("python") != std::string_view::npos;
      if (suspect && !module.tells_symbols(snapshot_.space)) silent = &module;
    }
    if ((main != nullptr && silent == nullptr) || search_.saw_everything()) return true;
    report(findings_, "python-undetermined", silent == nullptr ? 0 : silent->range.start,
           silent == nullptr
               ? std::string("whether there is a Python in it cannot be told: the snapshot does not say what program "
                             "this was")
               : fmt::format("whether there is a Python in it cannot be told: {}'s symbols are neither in the "
                             "snapshot nor in a file here that is proved to be it; name that file with --exe or "
                             "--sysroot",
                             silent->path));
    return false;
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
    if (const auto words = debug_offsets_head(module)) return PyVersion{static_cast<std::uint32_t>((*words)[1]), true};
    return version_in_name(module.name());
  }

  std::optional<PyRuntime> find_runtime(const Module& module, const PyTraits& traits, Findings& findings) {
    PyRuntime runtime;
    runtime.traits = traits;
    runtime.module_path = module.path;
    const auto type_type = anchor_ ? std::optional(anchor_->type_type) : symbol(module, "PyType_Type");
    if (!type_type || !verify_type_type(*type_type, *traits.layout)) {
      report(findings, "python-type-unverified", type_type.value_or(0),
             "the object at PyType_Type is not a type whose type is itself; the Python part is left out");
      return std::nullopt;
    }
    runtime.type_type = *type_type;
    const auto named = traits.gc_home == GcHome::kStatic ? std::nullopt : runtime_address(module);
    if (named) {
      runtime.state = named->first;
      runtime.located_by = named->second;
    }
    if (!find_interpreters(snapshot_, search_, module, runtime, findings)) {
      runtime.located_by = anchor_ ? "structure of PyType_Type" : "symbol PyType_Type";
      report(findings, "python-runtime-not-found", module.range.start,
             "_PyRuntime was not found; interpreters and the collector's lists are unknown");
    }
    if (runtime.traits.obmalloc_home == ObmallocHome::kNowhere) {
      find_mimalloc(snapshot_, runtime);
      if (!runtime.mimalloc) {
        report(findings, "mimalloc-not-found", module.range.start,
               "the segments of mimalloc, which hold all objects, were not found");
      }
      return runtime;
    }
    if (traits.layout->PyDictValues.embedded.present()) {
      if (const auto dict_first = visits_managed_dict_first(snapshot_, module))
        runtime.traits.dict_visits_inline_values = *dict_first;
    }
    if (symbol(module, "PyUnicodeUCS2_FromUnicode")) runtime.traits.unicode_unit_bytes = 2;
    find_arena_tables(snapshot_, module, runtime);
    find_number_blocks(snapshot_, module, runtime, findings);
    if (!runtime.arenas) find_mimalloc(snapshot_, runtime);  // PYTHONMALLOC=mimalloc
    if (!runtime.arenas && !runtime.mimalloc) {
      // Whether anything is missed for it, whoever sweeps can tell.
      findings.note("obmalloc-not-found", Room::kPyobj, module.range.start,
                    "CPython's small-object allocator was not found; it may not be in use (PYTHONMALLOC=malloc)");
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

  const Snapshot& snapshot_;
  Reader reader_;
  RuntimeSearch search_;
  Findings& findings_;
  PyLayoutSource source_;
  std::optional<TypeAnchor> anchor_;  // set where no symbol names PyType_Type
  std::optional<Addr> cookie_;
  bool cookie_searched_ = false;
};

}  // namespace

PythonState find_python(const Snapshot& snapshot, Findings& findings, PyLayoutSource source) {
  return Finder(snapshot, findings, source).run();
}

}  // namespace heapcore

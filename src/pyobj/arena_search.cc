#include "pyobj/arena_search.h"

#include <algorithm>

#include "coreparse/code.h"
#include "pyobj/obmalloc.h"

namespace heapcore {
namespace {

class ArenaSearch {
 public:
  ArenaSearch(const Snapshot& snapshot, const Module& module, const PyTraits& traits)
      : snapshot_(snapshot), module_(module), traits_(traits), reader_(snapshot.space) {}

  std::optional<ArenaTable> by_statics() {
    const std::optional<Addr> arenas = symbol("arenas");
    const std::optional<Addr> maxarenas = symbol("maxarenas");
    if (arenas && maxarenas) {
      if (auto table = table_at(*arenas, *maxarenas, "symbol arenas")) return table;
    }
    // Each reads both variables. The last is for stripped builds to 3.8, whose optimiser may have emptied the others.
    for (const char* function : {"_Py_GetAllocatedBlocks", "_PyObject_DebugMallocStats", "PyObject_Free"}) {
      if (auto table = by_code(function)) return table;
    }
    return by_structure();
  }

  // The obmalloc state of one interpreter; nothing if it has none of its own that holds anything.
  std::optional<ArenaTable> of_interpreter(Addr interpreter) {
    const PyLayout& layout = *traits_.layout;
    const auto state_table = [&](Addr state) {
      return table_at(state + layout._obmalloc_state.arenas.offset, state + layout._obmalloc_state.maxarenas.offset,
                      "interpreter state");
    };
    const Addr place = interpreter + layout.PyInterpreterState.obmalloc.offset;
    if (traits_.obmalloc_home == ObmallocHome::kInterpreter) return state_table(place);
    // A build with Py_DEBUG has one more word before it.
    for (const Addr at : {place, place + 8}) {
      Addr state = 0;
      if (!reader_.try_load(at, state) || state < 4096) continue;
      if (auto table = state_table(state)) return table;
    }
    return std::nullopt;
  }

 private:
  std::optional<Addr> symbol(const char* name) const {
    const std::optional<Symbol> found = module_.symbol(name, snapshot_.space);
    if (!found) return std::nullopt;
    return found->address;
  }

  std::optional<ArenaTable> table_at(Addr arenas, Addr maxarenas, std::string method) {
    ArenaTable table;
    table.located_by = std::move(method);
    if (!reader_.try_load(arenas, table.address) || !reader_.try_load(maxarenas, table.count)) return std::nullopt;
    if (!verify_arena_table(reader_, traits_, table)) return std::nullopt;
    return table;
  }

  // maxarenas is read as 32 bits, arenas as 64; which of those that a function reads they are, the table itself tells.
  std::optional<ArenaTable> by_code(const std::string& name) {
    constexpr std::uint32_t kMaxInstructions = 128;
    const auto function = symbol(name.c_str());
    if (!function) return std::nullopt;
    std::vector<CodeRef> references = code_references(reader_, *function, kMaxInstructions);
    // The body may be a function of its own, jumped to at the end.
    for (const CodeRef& jump : std::vector<CodeRef>(references)) {
      if (jump.kind != CodeRefKind::kJump || !module_.range.contains(jump.target)) continue;
      const std::vector<CodeRef> more = code_references(reader_, jump.target, kMaxInstructions);
      references.insert(references.end(), more.begin(), more.end());
      if (references.size() > 1000) break;
    }
    for (const CodeRef& narrow : references) {
      if (narrow.width_bytes != 4) continue;
      for (const CodeRef& wide : references) {
        if (wide.kind != CodeRefKind::kLoad || wide.width_bytes != 8) continue;
        if (auto table = table_at(wide.target, narrow.target, "code of " + name)) return table;
      }
    }
    return std::nullopt;
  }

  // Any word of the interpreter's writable data that points to something that verifies as an array of arena_objects.
  std::optional<ArenaTable> by_structure() {
    for (const AddrRange& range : snapshot_.variables_of(module_)) {
      if (range.size_bytes() > (64 << 20)) continue;
      Reader table_reader(snapshot_.space);
      for (Addr at = range.start; at + 8 <= range.end; at += 8) {
        Addr candidate = 0;
        if (!reader_.try_load(at, candidate) || candidate < 4096 || !is_aligned(candidate, 16)) continue;
        const std::uint32_t count = plausible_arena_count(table_reader, traits_, candidate);
        ArenaTable table{candidate, count, "structure"};
        if (count != 0 && verify_arena_table(table_reader, traits_, table)) return table;
      }
    }
    return std::nullopt;
  }

  const Snapshot& snapshot_;
  const Module& module_;
  const PyTraits& traits_;
  Reader reader_;
};

}  // namespace

void find_arena_tables(const Snapshot& snapshot, const Module& module, PyRuntime& runtime) {
  ArenaSearch search(snapshot, module, runtime.traits);
  if (runtime.traits.obmalloc_home == ObmallocHome::kStatics) {
    runtime.arenas = search.by_statics();
    return;
  }
  // The main interpreter was made first, and new ones are put before it.
  for (auto interpreter = runtime.interpreters.rbegin(); interpreter != runtime.interpreters.rend(); ++interpreter) {
    const std::optional<ArenaTable> table = search.of_interpreter(interpreter->address);
    if (!table) continue;
    if (!runtime.arenas) {
      runtime.arenas = table;
      continue;
    }
    const auto same = [&](const ArenaTable& other) { return other.address == table->address; };
    if (same(*runtime.arenas) || std::any_of(runtime.more_arenas.begin(), runtime.more_arenas.end(), same)) continue;
    runtime.more_arenas.push_back(*table);
  }
}

}  // namespace heapcore

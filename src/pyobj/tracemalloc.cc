#include "pyobj/tracemalloc.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <tuple>
#include <unordered_map>

#include "pyobj/strings.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kMostBuckets = std::uint64_t{1} << 32;
constexpr std::uint32_t kMostFrames = 65535;  // Py_TRACEBACK_MAX_NFRAME
constexpr std::uint64_t kMostNameChars = 4096;
constexpr std::uint32_t kMostLine = 1 << 28;
constexpr std::size_t kSample = 32;  // entries by which a table is known
constexpr std::uint64_t kWord = 8;

// A _Py_hashtable_t.
struct Table {
  Addr buckets = 0;
  std::uint64_t nbuckets = 0;
  std::uint64_t nentries = 0;
  std::uint64_t key_size = 0;  // where keys and values lie in the entries (to 3.8)
};

// What an entry of a table of traces says.
struct Entry {
  Addr key = 0;
  Addr value = 0;  // of the trace_t; in the table of domains, of another table
  std::uint32_t domain = 0;
};

class TraceReader {
 public:
  TraceReader(const Snapshot& snapshot, const PyRuntime& runtime, Findings& findings)
      : snapshot_(snapshot),
        runtime_(runtime),
        layout_(*runtime.traits.layout),
        reader_(snapshot.space),
        findings_(findings),
        mapped_bytes_(snapshot.mapped_bytes()) {}

  std::optional<TraceTables> run() {
    if (!layout_.trace_t.traceback.present()) {
      findings_.add(
          {"tracemalloc-unknown", Room::kPyobj, 0, "this version of CPython has no tracemalloc that heapcore knows"});
      return std::nullopt;
    }
    if (!(layout_._PyRuntimeState.tracemalloc_traces.present() ? find_in_runtime() : find_in_statics()))
      return std::nullopt;
    if (!tables_.tracing) return std::move(tables_);
    if (traces_) read_traces(*traces_, 0);
    if (domains_) {
      walk(*domains_, [&](const Entry& entry) {
        if (const auto table = table_at(entry.value)) read_traces(*table, static_cast<std::uint32_t>(entry.key));
      });
    }
    std::sort(tables_.traces.begin(), tables_.traces.end(),
              [](const Trace& a, const Trace& b) { return std::tie(a.block, a.domain) < std::tie(b.block, b.domain); });
    return std::move(tables_);
  }

 private:
  // ---- where the tables are -----------------------------------------------------------------------------------------

  // A pointer, or an int of C, at a field of a structure; 0 if that is not there.
  template <typename T>
  T at(Addr structure, const Field& field) {
    T value{};
    reader_.try_load(structure + field.offset, value);
    return value;
  }

  bool find_in_runtime() {
    const auto& fields = layout_._PyRuntimeState;
    if (runtime_.state == 0) {
      findings_.add(
          {"tracemalloc-not-found", Room::kPyobj, 0, "_PyRuntime, which points to its tables, was not found"});
      return false;
    }
    tables_.located_by = "_PyRuntime.tracemalloc";
    tables_.tracing = at<std::int32_t>(runtime_.state, fields.tracemalloc_tracing) != 0;
    if (!tables_.tracing) return true;
    tables_.most_frames = at<std::uint32_t>(runtime_.state, fields.tracemalloc_max_nframe);
    tables_.traced_bytes = at<std::uint64_t>(runtime_.state, fields.tracemalloc_traced_memory);
    tables_.peak_bytes = at<std::uint64_t>(runtime_.state, fields.tracemalloc_peak_traced_memory);
    traces_ = table_at(at<Addr>(runtime_.state, fields.tracemalloc_traces));
    domains_ = table_at(at<Addr>(runtime_.state, fields.tracemalloc_domains));
    if (traces_) return true;
    findings_.add(
        {"tracemalloc-damaged", Room::kPyobj, runtime_.state, "tracing was on, but the table of traces is none"});
    return false;
  }

  const Module* interpreter() const {
    for (const Module& module : snapshot_.modules) {
      if (module.path == runtime_.module_path) return &module;
    }
    return nullptr;
  }

  std::optional<Addr> variable(const Module& module, std::string_view name) {
    const std::optional<Symbol> symbol = module.symbol(name, snapshot_.space);
    return symbol ? std::optional(symbol->address) : std::nullopt;
  }

  bool find_in_statics() {
    const Module* module = interpreter();
    if (module == nullptr) return false;
    std::optional<bool> tracing;
    if (const auto config = variable(*module, "_Py_tracemalloc_config")) {  // 3.8 to 3.11
      tracing = at<std::int32_t>(*config, layout_._PyTraceMalloc_Config.tracing) != 0;
      tables_.most_frames = at<std::uint32_t>(*config, layout_._PyTraceMalloc_Config.max_nframe);
    }
    if (const auto place = variable(*module, "tracemalloc_traces")) {
      tables_.located_by = "symbol tracemalloc_traces";
      traces_ = table_at(reader_.load<Addr>(*place).value_or(0));
      if (const auto domains = variable(*module, "tracemalloc_domains"))
        domains_ = table_at(reader_.load<Addr>(*domains).value_or(0));
      if (const auto bytes = variable(*module, "tracemalloc_traced_memory"))
        tables_.traced_bytes = reader_.load<std::uint64_t>(*bytes);
      if (const auto bytes = variable(*module, "tracemalloc_peak_traced_memory"))
        tables_.peak_bytes = reader_.load<std::uint64_t>(*bytes);
    } else if (tracing.value_or(true)) {
      tables_.located_by = "shape of the table of traces";
      search_statics(*module);
    }
    tables_.tracing = tracing.value_or(traces_ && traces_->nentries != 0);
    if (!tables_.tracing || traces_) return true;
    findings_.add({"tracemalloc-not-found", Room::kPyobj, 0,
                   "tracing was on, but the interpreter has no symbols, and nothing among its variables points to what "
                   "has the shape of the table of traces"});
    return false;
  }

  // Of all that the variables point to, the largest that are a table of traces and one of such tables.
  void search_statics(const Module& module) {
    const Field& hash_func = layout_._Py_hashtable_t.hash_func;
    for (const AddrRange& range : snapshot_.variables_of(module)) {
      for (Addr place = align_up(range.start, kWord); place + kWord <= range.end; place += kWord) {
        const Addr address = reader_.load<Addr>(place).value_or(0);
        if (address == 0 || !is_aligned(address, kWord)) continue;
        const std::optional<Table> table = table_at(address);
        if (!table || table->nentries == 0 || snapshot_.module_at(at<Addr>(address, hash_func)) == nullptr) continue;
        if (holds_traces(*table)) {
          if (!traces_ || table->nentries > traces_->nentries) traces_ = table;
        } else if (holds_tables(*table)) {
          domains_ = table;
        }
      }
    }
  }

  bool holds_traces(const Table& table) {
    std::size_t seen = 0;
    bool all = true;
    walk(table, [&](const Entry& entry) {
      all = all && is_trace(entry);
      return all && ++seen < kSample;
    });
    return all && seen != 0;
  }

  bool holds_tables(const Table& table) {
    if (!layout_._Py_hashtable_entry_t.value.present()) return false;
    std::size_t seen = 0;
    bool all = true;
    walk(table, [&](const Entry& entry) {
      const std::optional<Table> inner = entry.key >> 32 == 0 ? table_at(entry.value) : std::nullopt;
      all = all && inner && (inner->nentries == 0 || holds_traces(*inner));
      return all && ++seen < kSample;
    });
    return all && seen != 0;
  }

  bool is_trace(const Entry& entry) {
    const Addr traceback = at<Addr>(entry.value, layout_.trace_t.traceback);
    const std::uint32_t count = frames_of(traceback);
    if (count == 0 || count > kMostFrames || at<std::uint64_t>(entry.value, layout_.trace_t.size) > mapped_bytes_)
      return false;
    const Addr frame = traceback + layout_.traceback_t.frames.offset;
    if (at<std::uint32_t>(frame, layout_.frame_t.lineno) > kMostLine) return false;
    return name_of(at<Addr>(frame, layout_.frame_t.filename)).has_value();
  }

  // ---- hash tables --------------------------------------------------------------------------------------------------

  std::optional<Table> table_at(Addr address) {
    const auto& fields = layout_._Py_hashtable_t;
    if (address == 0 || reader_.span(address, fields.size_bytes).empty()) return std::nullopt;
    Table table;
    table.buckets = at<Addr>(address, fields.buckets);
    table.nbuckets = at<std::uint64_t>(address, fields.nbuckets);
    table.nentries = at<std::uint64_t>(address, fields.nentries);
    if (fields.key_size.present()) {
      table.key_size = at<std::uint64_t>(address, fields.key_size);
      if (table.key_size != kWord && table.key_size != kWord + sizeof(std::uint32_t)) return std::nullopt;
    }
    if (!std::has_single_bit(table.nbuckets) || table.nbuckets > kMostBuckets ||
        table.nentries > mapped_bytes_ / kWord || !is_aligned(table.buckets, kWord) ||
        reader_.span(table.buckets, table.nbuckets * kWord).empty()) {
      return std::nullopt;
    }
    return table;
  }

  // Calls visit(Entry) of each, until it says false if it says anything. Looks at no more than the table says it has.
  template <typename Visit>
  void walk(const Table& table, Visit&& visit) {
    const auto& fields = layout_._Py_hashtable_entry_t;
    std::uint64_t seen = 0;
    for (std::uint64_t bucket = 0; bucket < table.nbuckets; ++bucket) {
      Addr address = reader_.load<Addr>(table.buckets + bucket * kWord).value_or(0);
      while (address != 0) {
        if (++seen > table.nentries || reader_.span(address, fields.size_bytes).empty()) {
          findings_.add(
              {"tracemalloc-damaged", Room::kPyobj, address,
               "a table of traces holds more than it says, or what is not there; the rest of it is left out"});
          return;
        }
        if constexpr (std::is_same_v<decltype(visit(Entry())), bool>) {
          if (!visit(entry_at(address, table))) return;
        } else {
          visit(entry_at(address, table));
        }
        address = at<Addr>(address, fields.next);
      }
    }
  }

  Entry entry_at(Addr address, const Table& table) {
    const auto& fields = layout_._Py_hashtable_entry_t;
    if (fields.key.present()) return {at<Addr>(address, fields.key), at<Addr>(address, fields.value), 0};
    const Addr key = address + fields.size_bytes;
    const std::uint32_t domain = table.key_size == kWord ? 0 : reader_.load<std::uint32_t>(key + kWord).value_or(0);
    return {reader_.load<Addr>(key).value_or(0), key + table.key_size, domain};
  }

  // ---- what they hold -----------------------------------------------------------------------------------------------

  void read_traces(const Table& table, std::uint32_t domain) {
    walk(table, [&](const Entry& entry) {
      Trace trace{entry.key, 0, 0, entry.domain != 0 ? entry.domain : domain};
      Addr traceback = 0;
      if (!reader_.try_load(entry.value + layout_.trace_t.size.offset, trace.bytes) ||
          !reader_.try_load(entry.value + layout_.trace_t.traceback.offset, traceback) ||
          !add_traceback(traceback, trace)) {
        findings_.add({"tracemalloc-damaged", Room::kPyobj, entry.value, "a trace cannot be read; it is left out"});
        return;
      }
      tables_.traces.push_back(trace);
    });
  }

  std::uint32_t frames_of(Addr traceback) {
    const Field& nframe = layout_.traceback_t.nframe;
    return nframe.width_bytes == sizeof(std::uint16_t) ? at<std::uint16_t>(traceback, nframe)
                                                       : at<std::uint32_t>(traceback, nframe);
  }

  bool add_traceback(Addr address, Trace& trace) {
    if (const auto known = tracebacks_.find(address); known != tracebacks_.end()) {
      trace.traceback = known->second;
      return true;
    }
    const auto& fields = layout_.traceback_t;
    const std::uint32_t frame_bytes = layout_.frame_t.size_bytes;
    const std::uint32_t count = frames_of(address);
    const Addr frames = address + fields.frames.offset;
    // Tracebacks of a sound process do not lie in one another, so that all together are no larger than memory.
    if (count == 0 || count > kMostFrames || (tables_.frames.size() + count) * frame_bytes > mapped_bytes_ ||
        reader_.span(frames, std::uint64_t{count} * frame_bytes).empty()) {
      return false;
    }
    Traceback traceback{tables_.frames.size(), count, 0};
    if (fields.total_nframe.present()) traceback.total = at<std::uint16_t>(address, fields.total_nframe);
    for (std::uint32_t i = 0; i < count; ++i) {
      const Addr frame = frames + std::uint64_t{i} * frame_bytes;
      tables_.frames.push_back(
          {file_number(at<Addr>(frame, layout_.frame_t.filename)), at<std::uint32_t>(frame, layout_.frame_t.lineno)});
    }
    trace.traceback = static_cast<std::uint32_t>(tables_.tracebacks.size());
    tables_.tracebacks.push_back(traceback);
    tracebacks_.emplace(address, trace.traceback);
    return true;
  }

  // A str, or a C string (from 3.15.1 on, or a little before).
  std::optional<std::string> name_of(Addr filename) {
    const Field& ob_type = layout_.PyObject.ob_type;
    const bool is_object = at<Addr>(at<Addr>(filename, ob_type), ob_type) == runtime_.type_type;
    return is_object ? decode_str(reader_, runtime_.traits, filename, kMostNameChars)
                     : reader_.c_string(filename, kMostNameChars);
  }

  // Files of one name are one.
  std::uint32_t file_number(Addr filename) {
    if (const auto known = files_.find(filename); known != files_.end()) return known->second;
    const std::string name = name_of(filename).value_or("<unknown>");
    const auto [entry, is_new] = names_.try_emplace(name, static_cast<std::uint32_t>(tables_.files.size()));
    if (is_new) tables_.files.push_back(name);
    files_.emplace(filename, entry->second);
    return entry->second;
  }

  const Snapshot& snapshot_;
  const PyRuntime& runtime_;
  const PyLayout& layout_;
  Reader reader_;
  Findings& findings_;
  std::uint64_t mapped_bytes_;
  std::optional<Table> traces_;
  std::optional<Table> domains_;
  std::unordered_map<Addr, std::uint32_t> tracebacks_;
  std::unordered_map<Addr, std::uint32_t> files_;
  std::unordered_map<std::string, std::uint32_t> names_;
  TraceTables tables_;
};

}  // namespace

std::optional<TraceTables> read_trace_tables(const Snapshot& snapshot, const PyRuntime& runtime, Findings& findings) {
  return TraceReader(snapshot, runtime, findings).run();
}

}  // namespace heapcore

#include "analysis/borrowed.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kWordBytes = 8;
constexpr std::uint64_t kEntryBytes = 3 * kWordBytes;
// So many pointers in a row to objects of one type are a free list; in the interpreter's state fewer are enough, since
// elsewhere they may be anybody's variables.
constexpr int kLeastInFreeList = 8;
constexpr int kLeastInInterpreter = 4;

}  // namespace

BorrowedWords::BorrowedWords(const Process& process, TypeTable& types)
    : traits_(process.runtime()->traits), layout_(*traits_.layout), types_(types), reader_(process.snapshot.space) {
  const auto& fields = layout_.PyInterpreterState;
  for (const Interpreter& interpreter : process.runtime()->interpreters) {
    for (const Field* field : {&fields.modules, &fields.imports_modules, &fields.modules_by_index, &fields.sysdict,
                               &fields.builtins, &fields.builtins_copy, &fields.dict, &fields.codec_search_path,
                               &fields.codec_search_cache, &fields.codec_error_registry, &fields.codecs_search_path,
                               &fields.codecs_search_cache, &fields.codecs_error_registry, &fields.before_forkers,
                               &fields.after_forkers_parent, &fields.after_forkers_child, &fields.gc_garbage}) {
      if (field->present()) variables_.insert(interpreter.address + field->offset);
    }
  }
}

bool BorrowedWords::is_borrowed(const RootWord& word, const TypeInfo& type) {
  if (variables_.contains(word.place)) return false;
  const bool by_free_list = type.kind == Kind::kDict || type.kind == Kind::kList;
  return (by_free_list && is_in_free_list(word, type.address)) || is_cached_attribute(word.place);
}

// Its neighbours are entries as well; so the table's first and last are not told.
bool BorrowedWords::is_cached_attribute(Addr place) {
  const Addr entry = place - 2 * kWordBytes;
  return is_cache_entry(entry, false) && is_cache_entry(entry - kEntryBytes, true) &&
         is_cache_entry(entry + kEntryBytes, true);
}

bool BorrowedWords::is_cache_entry(Addr entry, bool may_be_empty) {
  std::uint64_t version = 0;
  Addr name = 0;
  Addr value = 0;
  if (!reader_.try_load(entry, version) || !reader_.try_load(entry + kWordBytes, name) ||
      !reader_.try_load(entry + 2 * kWordBytes, value) || version >> 32 != 0)
    return false;
  if (version == 0) return may_be_empty && value == 0;
  if (types_.classify(type_of(version)).id != kNoType) return false;  // an object, low in memory (programs without PIE)
  const TypeBrief type = types_.classify(type_of(name));
  if (type.id == kNoType) return false;
  const Kind kind = types_.shared_info(type.id).kind;
  return kind == Kind::kStr || kind == Kind::kBytes;  // as 2.7 calls it
}

bool BorrowedWords::is_in_free_list(const RootWord& word, Addr type) {
  // Free lists are the interpreters' since the collector is.
  const bool of_interpreter = word.kind == RootKind::kInterpreter && traits_.gc_home == GcHome::kInterpreter;
  const int least = of_interpreter ? kLeastInInterpreter : kLeastInFreeList;
  int found = 1;
  for (const bool upwards : {true, false}) {
    for (Addr at = word.place; found < least; ++found) {
      at += upwards ? kWordBytes : -kWordBytes;
      Addr next = 0;
      if (variables_.contains(at) || !reader_.try_load(at, next) || type_of(next) != type) break;
    }
  }
  return found == least;
}

Addr BorrowedWords::type_of(Addr address) {
  Addr type = 0;
  if (address != 0 && is_aligned(address, kWordBytes))
    reader_.try_load(address + layout_.PyObject.ob_type.offset, type);
  return type;
}

}  // namespace heapcore

// The references of types and modules.
#include <algorithm>

#include "pyobj/references.h"
#include "pyobj/static_types.h"
#include "pyobj/strings.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kMaxStateBytes = 1 << 20;  // of one module

EdgeName named(const char* field) {
  return {What::kField, field};
}

}  // namespace

// type_traverse: of static types it visits nothing, for they live as long as the process.
void ReferenceReader::visit_type(const ObjectView& object, const ReferencePlan& plan, Bytes bytes, const Sink& visit) {
  const auto& fields = layout_.PyTypeObject;
  const auto& heap = layout_.PyHeapTypeObject;
  const bool is_heap_type = (field(bytes, fields.tp_flags) & tp_flag::kHeapType) != 0;
  const RefKind kind = is_heap_type ? plan.inner : RefKind::kOwned;
  visit(field(bytes, fields.tp_dict), kind, named("__dict__"));
  visit(field(bytes, fields.tp_cache), kind, named("tp_cache"));
  visit(field(bytes, fields.tp_mro), kind, named("__mro__"));
  visit(field(bytes, fields.tp_bases), kind, named("__bases__"));
  visit(field(bytes, fields.tp_base), kind, named("__base__"));
  if (!is_heap_type) return visit_static_type(object, bytes, visit);
  // ctypes' pointer types visit what they point to, which their dict keeps (to 3.12).
  if (plan.struct_id == StructId::kStgDictObject && layout_.StgDictObject.proto.present()) {
    Addr proto = 0;
    if (elsewhere_.try_load(field(bytes, fields.tp_dict) + layout_.StgDictObject.proto.offset, proto))
      visit(proto, plan.inner, named("_type_"));
  }
  visit(field(bytes, heap.ht_module), kind, named("ht_module"));
  visit(field(bytes, fields.tp_subclasses), RefKind::kOwned, named("tp_subclasses"));
  visit(field(bytes, heap.ht_name), RefKind::kOwned, named("__name__"));
  visit(field(bytes, heap.ht_qualname), RefKind::kOwned, named("__qualname__"));
  visit(field(bytes, heap.ht_slots), RefKind::kOwned, named("ht_slots"));
  visit(field(bytes, heap._ht_tpname), RefKind::kBuffer, named("_ht_tpname"));
  visit(field(bytes, fields.tp_doc), RefKind::kBuffer, named("tp_doc"));
  const Addr keys = field(bytes, heap.ht_cached_keys);
  if (keys == 0) return;
  visit(keys, RefKind::kBuffer, named("ht_cached_keys"));
  visit_cached_keys(keys, visit);
}

// The names of the instances' attributes.
void ReferenceReader::visit_cached_keys(Addr keys_at, const Sink& visit) {
  const auto keys = read_dict_keys(elsewhere_, traits_, keys_at);
  if (!keys) return;
  const Bytes entries = elsewhere_.span(keys_at + keys->entries_offset, keys->nentries * keys->entry_bytes);
  for (std::uint64_t at = 0; at + keys->entry_bytes <= entries.size(); at += keys->entry_bytes) {
    const Addr key = word(entries, at + keys->key_offset);
    visit(key, RefKind::kOwned, EdgeName{What::kDictKey, "", key});
  }
}

// tp_subclasses of a type that interpreters keep a state of is 1 + the state's place.
void ReferenceReader::visit_static_type(const ObjectView& object, Bytes bytes, const Sink& visit) {
  bool kept = false;
  for (const Interpreter& interpreter : runtime_.interpreters) {
    const auto state = static_type_state(elsewhere_, layout_, interpreter.address, object.address);
    if (!state) continue;
    kept = true;
    visit(state->dict, RefKind::kOwned, named("__dict__"));
    visit(state->subclasses, RefKind::kOwned, named("tp_subclasses"));
  }
  if (!kept) visit(field(bytes, layout_.PyTypeObject.tp_subclasses), RefKind::kOwned, named("tp_subclasses"));
}

// The state of atexit, to 3.9: pointers to what it calls.
bool ReferenceReader::is_atexit(Bytes module, std::uint64_t state_bytes) {
  Addr name = 0;
  const Addr def = field(module, layout_.PyModuleObject.md_def);
  return state_bytes != 0 && state_bytes == layout_.atexitmodule_state.size_bytes &&
         elsewhere_.try_load(def + layout_.PyModuleDef.m_name.offset, name) &&
         elsewhere_.c_string(name, 16) == "atexit";
}

void ReferenceReader::visit_exit_callbacks(const ObjectView& object, Addr state, const Sink& visit) {
  const auto& fields = layout_.atexitmodule_state;
  const auto& callback = layout_.atexit_callback;
  const Bytes words = elsewhere_.span(state, fields.size_bytes);
  if (words.empty()) return damaged(object.address, "the state of atexit is not in the snapshot");
  const Addr table = field(words, fields.atexit_callbacks);
  visit(table, RefKind::kBuffer, named("atexit_callbacks"));
  const Bytes items = words_at(object.address, table, field(words, fields.ncallbacks));
  for (std::size_t at = 0; at + kWordBytes <= items.size(); at += kWordBytes) {
    const Addr item = word(items, at);
    const Bytes parts = item == 0 ? Bytes() : elsewhere_.span(item, callback.size_bytes);
    if (parts.empty()) continue;
    visit(item, RefKind::kBuffer, named("callback"));
    visit(field(parts, callback.func), RefKind::kVisited, named("func"));
    visit(field(parts, callback.args), RefKind::kVisited, named("args"));
    visit(field(parts, callback.kwargs), RefKind::kVisited, named("kwargs"));
  }
}

// What an extension keeps for its module: md_def->m_size bytes, visited by a function of its own.
void ReferenceReader::visit_module(const ObjectView& object, Bytes bytes, const Sink& visit) {
  const auto& fields = layout_.PyModuleObject;
  const Addr state = field(bytes, fields.md_state);
  if (state == 0) return;
  std::uint64_t size = field(bytes, fields.md_state_size);
  if (fields.md_def.present()) {
    const Addr def = field(bytes, fields.md_def);
    if (def == 0 || !elsewhere_.try_load(def + layout_.PyModuleDef.m_size.offset, size)) return;
  }
  if (size == 0 || size > kMaxStateBytes) return;
  visit(state, RefKind::kBuffer, named("md_state"));
  if (is_atexit(bytes, size)) return visit_exit_callbacks(object, state, visit);
  const Bytes words = elsewhere_.span(state, size);
  visit_words(words, 0, words.size(), visit);
}

}  // namespace heapcore

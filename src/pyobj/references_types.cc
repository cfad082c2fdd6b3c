// The references of types and modules.
#include <algorithm>

#include "pyobj/references.h"
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

// From 3.12 on the dict and the subclasses of the interpreter's own types lie in the interpreter's state;
// tp_subclasses then is 1 + their place there.
void ReferenceReader::visit_static_type(const ObjectView& object, Bytes bytes, const Sink& visit) {
  const Addr subclasses = field(bytes, layout_.PyTypeObject.tp_subclasses);
  const Field& table = layout_.PyInterpreterState.types_builtins;
  if (!table.present()) return visit(subclasses, RefKind::kOwned, named("tp_subclasses"));
  const bool old_name = layout_.managed_static_type_state.size_bytes == 0;
  const auto read = [&](const auto& state) {
    const std::uint64_t places = table.width_bytes / state.size_bytes;
    if (subclasses == 0 || subclasses > places) return visit(subclasses, RefKind::kOwned, named("tp_subclasses"));
    for (const Interpreter& interpreter : runtime_.interpreters) {
      // 3.13+: the table follows the number of its entries.
      const Addr start = interpreter.address + table.offset + table.width_bytes % state.size_bytes;
      const Bytes words = elsewhere_.span(start + (subclasses - 1) * state.size_bytes, state.size_bytes);
      if (field(words, state.type) != object.address) continue;
      visit(field(words, state.tp_dict), RefKind::kOwned, named("__dict__"));
      visit(field(words, state.tp_subclasses), RefKind::kOwned, named("tp_subclasses"));
    }
  };
  if (old_name && layout_.static_builtin_state.size_bytes != 0) return read(layout_.static_builtin_state);
  if (!old_name) return read(layout_.managed_static_type_state);
}

// What an extension keeps for its module: md_def->m_size bytes, visited by a function of its own.
void ReferenceReader::visit_module(const ObjectView&, Bytes bytes, const Sink& visit) {
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
  const Bytes words = elsewhere_.span(state, size);
  visit_words(words, 0, words.size(), visit);
}

}  // namespace heapcore

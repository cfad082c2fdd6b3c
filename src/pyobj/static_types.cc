#include "pyobj/static_types.h"

namespace heapcore {
namespace {

// An array of states, before which there may be a count or two, which take less room than a state.
template <typename Fields>
std::optional<StaticTypeState> find_in(Reader& reader, const Field& states, const Fields& fields, Addr interpreter,
                                       Addr type) {
  if (!states.present() || fields.size_bytes == 0) return std::nullopt;
  for (std::uint32_t at = states.width_bytes % fields.size_bytes; at < states.width_bytes; at += fields.size_bytes) {
    const Addr state = interpreter + states.offset + at;
    Addr known = 0;
    if (!reader.try_load(state + fields.type.offset, known) || known != type) continue;
    StaticTypeState found;
    reader.try_load(state + fields.tp_dict.offset, found.dict);
    reader.try_load(state + fields.tp_subclasses.offset, found.subclasses);
    reader.try_load(state + fields.tp_weaklist.offset, found.weaklist);
    return found;
  }
  return std::nullopt;
}

}  // namespace

std::optional<StaticTypeState> static_type_state(Reader& reader, const PyLayout& layout, Addr interpreter, Addr type) {
  const auto& fields = layout.PyInterpreterState;
  for (const Field& states : {fields.types_builtins, fields.types_for_extensions}) {
    const auto found = layout.managed_static_type_state.size_bytes != 0
                           ? find_in(reader, states, layout.managed_static_type_state, interpreter, type)
                           : find_in(reader, states, layout.static_builtin_state, interpreter, type);
    if (found) return found;
  }
  return std::nullopt;
}

Addr type_dict(Reader& reader, const PyRuntime& runtime, Addr type) {
  const PyLayout& layout = *runtime.traits.layout;
  Addr dict = 0;
  if (reader.try_load(type + layout.PyTypeObject.tp_dict.offset, dict) && dict != 0) return dict;
  // Interpreters are listed newest first.
  const auto state = runtime.interpreters.empty()
                         ? std::nullopt
                         : static_type_state(reader, layout, runtime.interpreters.back().address, type);
  return state ? state->dict : 0;
}

}  // namespace heapcore

#include "pyobj/debug_offsets.h"

#include "pyobj/runtime_search.h"

namespace heapcore {
namespace {

// No structure is larger, but for _PyRuntimeState and PyInterpreterState, which stay below it as well.
constexpr std::uint64_t kMaxOffset = 1 << 20;

#define HC_CARRIED(entry_name, tag, name)                                                                            \
  CarriedField {                                                                                                     \
#tag, #name,                                                                                                     \
        [](PyLayout & layout)                                                                                        \
             -> Field& { return layout.tag.name; },                                                                  \
                                                 [](const PyLayout& layout)                                          \
                                                      -> const Field& { return layout._Py_DebugOffsets.entry_name; } \
  }

const CarriedField kCarried[] = {
    HC_CARRIED(runtime_state_interpreters_head, _PyRuntimeState, interpreters_head),
    HC_CARRIED(interpreter_state_id, PyInterpreterState, id),
    HC_CARRIED(interpreter_state_next, PyInterpreterState, next),
    HC_CARRIED(interpreter_state_threads_head, PyInterpreterState, threads_head),
    HC_CARRIED(interpreter_state_imports_modules, PyInterpreterState, imports_modules),
    HC_CARRIED(interpreter_state_sysdict, PyInterpreterState, sysdict),
    HC_CARRIED(interpreter_state_builtins, PyInterpreterState, builtins),
    HC_CARRIED(thread_state_prev, PyThreadState, prev),
    HC_CARRIED(thread_state_next, PyThreadState, next),
    HC_CARRIED(thread_state_interp, PyThreadState, interp),
    HC_CARRIED(thread_state_current_frame, PyThreadState, current_frame),
    HC_CARRIED(thread_state_base_frame, PyThreadState, base_frame),
    HC_CARRIED(thread_state_thread_id, PyThreadState, thread_id),
    HC_CARRIED(thread_state_native_thread_id, PyThreadState, native_thread_id),
    HC_CARRIED(thread_state_datastack_chunk, PyThreadState, datastack_chunk),
    HC_CARRIED(interpreter_frame_previous, _PyInterpreterFrame, previous),
    HC_CARRIED(interpreter_frame_executable, _PyInterpreterFrame, f_executable),
    HC_CARRIED(interpreter_frame_instr_ptr, _PyInterpreterFrame, instr_ptr),
    HC_CARRIED(interpreter_frame_localsplus, _PyInterpreterFrame, localsplus),
    HC_CARRIED(interpreter_frame_owner, _PyInterpreterFrame, owner),
    HC_CARRIED(interpreter_frame_stackpointer, _PyInterpreterFrame, stackpointer),
    HC_CARRIED(code_object_filename, PyCodeObject, co_filename),
    HC_CARRIED(code_object_name, PyCodeObject, co_name),
    HC_CARRIED(code_object_qualname, PyCodeObject, co_qualname),
    HC_CARRIED(code_object_linetable, PyCodeObject, co_linetable),
    HC_CARRIED(code_object_firstlineno, PyCodeObject, co_firstlineno),
    HC_CARRIED(code_object_argcount, PyCodeObject, co_argcount),
    HC_CARRIED(code_object_localsplusnames, PyCodeObject, co_localsplusnames),
    HC_CARRIED(code_object_localspluskinds, PyCodeObject, co_localspluskinds),
    HC_CARRIED(code_object_co_code_adaptive, PyCodeObject, co_code_adaptive),
    HC_CARRIED(pyobject_ob_type, PyObject, ob_type),
    HC_CARRIED(type_object_tp_name, PyTypeObject, tp_name),
    HC_CARRIED(type_object_tp_flags, PyTypeObject, tp_flags),
    HC_CARRIED(type_object_tp_basicsize, PyTypeObject, tp_basicsize),
    HC_CARRIED(type_object_tp_dictoffset, PyTypeObject, tp_dictoffset),
    HC_CARRIED(heap_type_object_ht_cached_keys, PyHeapTypeObject, ht_cached_keys),
    HC_CARRIED(tuple_object_ob_item, PyTupleObject, ob_item),
    HC_CARRIED(list_object_ob_item, PyListObject, ob_item),
    HC_CARRIED(list_object_ob_size, PyVarObject, ob_size),
    HC_CARRIED(set_object_used, PySetObject, used),
    HC_CARRIED(set_object_table, PySetObject, table),
    HC_CARRIED(set_object_mask, PySetObject, mask),
    HC_CARRIED(dict_object_ma_keys, PyDictObject, ma_keys),
    HC_CARRIED(dict_object_ma_values, PyDictObject, ma_values),
    HC_CARRIED(float_object_ob_fval, PyFloatObject, ob_fval),
    HC_CARRIED(long_object_lv_tag, PyLongObject, lv_tag),
    HC_CARRIED(long_object_ob_digit, PyLongObject, ob_digit),
    HC_CARRIED(bytes_object_ob_sval, PyBytesObject, ob_sval),
    HC_CARRIED(unicode_object_state, PyASCIIObject, state),
    HC_CARRIED(unicode_object_length, PyASCIIObject, length),
    HC_CARRIED(gen_object_gi_name, PyGenObject, gi_name),
    HC_CARRIED(gen_object_gi_iframe, PyGenObject, gi_iframe),
    HC_CARRIED(gen_object_gi_frame_state, PyGenObject, gi_frame_state),
};
#undef HC_CARRIED

// C lays a word at a multiple of its size; of what is no word nothing is known.
std::uint32_t alignment(const Field& field) {
  return field.width_bytes == 2 || field.width_bytes == 4 || field.width_bytes == 8 ? field.width_bytes : 1;
}

}  // namespace

std::vector<CarriedField> carried_fields() {
  return {std::begin(kCarried), std::end(kCarried)};
}

DebugOffsets read_debug_offsets(Reader& reader, const PyLayout& layout, Addr runtime_state) {
  DebugOffsets offsets;
  offsets.layout = layout;
  std::uint64_t cookie = 0;
  if (layout._Py_DebugOffsets.size_bytes == 0 || !reader.try_load(runtime_state, cookie) ||
      cookie != kDebugOffsetsCookie) {
    return offsets;
  }
  for (const CarriedField& field : kCarried) {
    const Field& entry = field.entry(layout);
    Field& place = field.place(offsets.layout);
    std::uint64_t value = 0;
    // A field that the layout has not got is of no known width.
    if (!entry.present() || !place.present() || !reader.try_load(runtime_state + entry.offset, value) ||
        value >= kMaxOffset || value % alignment(place) != 0) {
      continue;
    }
    offsets.carried.push_back(field);
    if (place.offset == value) continue;
    place.offset = static_cast<std::uint32_t>(value);
    offsets.differing.push_back(field);
  }
  return offsets;
}

}  // namespace heapcore

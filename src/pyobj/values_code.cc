// Functions, code, frames, generators, tracebacks. Part of ValueReader (values.h).
#include <fmt/format.h>

#include <algorithm>

#include "pyobj/code_lines.h"
#include "pyobj/strings.h"
#include "pyobj/values.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kWordBytes = 8;
constexpr std::int64_t kCodeUnitBytes = 2;
constexpr std::uint64_t kMostLocals = 4096;
constexpr std::uint64_t kMostTableBytes = 1 << 22;
constexpr int kMostTracebacks = 1000;

// co_localspluskinds (Include/internal/pycore_code.h).
constexpr std::uint8_t kCellOrFree = 0x40 | 0x80;

}  // namespace

std::string ValueReader::code_file(Addr code) {
  return name_at(word(code, layout_.PyCodeObject.co_filename));
}

std::string ValueReader::code_name(Addr code) {
  const auto& fields = layout_.PyCodeObject;
  return name_at(word(code, fields.co_qualname.present() ? fields.co_qualname : fields.co_name));
}

int ValueReader::line_of(Addr code, std::int64_t offset) {
  const auto& fields = layout_.PyCodeObject;
  const int first = static_cast<int>(number(code, fields.co_firstlineno));
  const Field& table_field = fields.co_lnotab.present() ? fields.co_lnotab : fields.co_linetable;
  const Object table = find(word(code, table_field));
  if (!table) return first;
  const std::uint64_t length = word(table.address, layout_.PyVarObject.ob_size);
  const bool of_2 = layout_.PyStringObject.ob_sval.present();
  const Field& own = of_2 ? layout_.PyStringObject.ob_sval : layout_.PyBytesObject.ob_sval;
  const auto bytes = reader_.span(table.address + own.offset, std::min(length, kMostTableBytes));
  const LineTable form = of_2                                      ? LineTable::kUnsignedLnotab
                         : fields.co_lnotab.present()              ? LineTable::kLnotab
                         : layout_.PyFrameObject.f_lasti.present() ? LineTable::kPairs
                                                                   : LineTable::kLocations;
  return line_at(form, bytes, first, offset);
}

std::string ValueReader::names_in(Addr tuple) {
  std::string names;
  const Object object = find(tuple);
  if (!object || object.kind != Kind::kTuple) return names;
  const Items found = ContainerReader(reader_, traits_, kMostLocals).tuple(tuple);
  for (const Item& item : found.items) names += (names.empty() ? "" : ", ") + name_at(item.value);
  return names;
}

void ValueReader::append_code(std::string& out, Addr code) {
  const auto& fields = layout_.PyCodeObject;
  out += fmt::format("<code object {} at {:#x}, file \"{}\", line {}>", name_at(word(code, fields.co_name)), code,
                     code_file(code), number(code, fields.co_firstlineno));
}

void ValueReader::append_callable(std::string& out, const Object& object) {
  const Addr address = object.address;
  switch (object.kind) {
    case Kind::kFunction: {
      const auto& fields = layout_.PyFunctionObject;
      const Field& name = fields.func_qualname.present() ? fields.func_qualname : fields.func_name;
      out += fmt::format("<function {} at {:#x}>", name_at(word(address, name)), address);
      break;
    }
    case Kind::kMethod: {
      const auto& fields = layout_.PyMethodObject;
      const Object function = find(word(address, fields.im_func));
      const Addr self = word(address, fields.im_self);
      std::string name = "?";
      if (function.kind == Kind::kFunction) {
        const auto& own = layout_.PyFunctionObject;
        name = name_at(word(function.address, own.func_qualname.present() ? own.func_qualname : own.func_name));
      }
      // 2.7 knows the class, and of no function its qualified name.
      const Object owner = find(word(address, fields.im_class));
      if (owner.kind == Kind::kType) {
        const TypeBrief brief = types_.classify(owner.address);
        if (brief.id != kNoType) name = short_name(types_.info(brief.id)) + "." + name;
      } else if (owner.kind == Kind::kClassicClass) {
        name = name_at(word(owner.address, layout_.PyClassObject.cl_name)) + "." + name;
      }
      out += self == 0 ? "<unbound method " + name : "<bound method " + name + " of ";
      if (self != 0) append(out, self);
      out += '>';
      break;
    }
    case Kind::kBuiltinFunction:
      append_builtin(out, object);
      break;
    case Kind::kFrame:
      if (const auto frame = frame_at(object)) {
        out += fmt::format("<frame at {:#x}, file '{}', line {}, code {}>", address, code_file(frame->code),
                           frame->line, name_at(word(frame->code, layout_.PyCodeObject.co_name)));
      } else {
        out += fmt::format("<frame at {:#x}>", address);
      }
      break;
    default: {
      const auto& fields = layout_.PyGenObject;
      std::string name = name_at(word(address, fields.gi_qualname));
      const Object code = find(word(address, fields.gi_code));
      if (name.empty() && code) name = name_at(word(code.address, layout_.PyCodeObject.co_name));
      out += fmt::format("<{} object {} at {:#x}>", object.type->name, name, address);
      break;
    }
  }
}

// Its name is text of the interpreter's or a library's file, which the core may not hold.
void ValueReader::append_builtin(std::string& out, const Object& object) {
  const auto& fields = layout_.PyCFunctionObject;
  const Addr definition = word(object.address, fields.m_ml);
  const Addr text = word(definition, layout_.PyMethodDef.ml_name);
  const std::string name = c_name_at(text);
  const Object self = find(word(object.address, fields.m_self));
  const bool is_function = !self || self.kind == Kind::kModule;
  out += is_function ? "<built-in function " : "<built-in method ";
  if (name.empty()) {
    const AddressSpace& space = reader_.space();
    if (space.state(text == 0 ? definition : text) == ByteState::kNotDumped) {
      findings_.add(
          {"function-name-missing", Room::kPyobj, object.address,
           "the name of a built-in function lies in a part of a file that the core does not hold and that was "
           "not found here"});
    } else {
      damaged(object.address, "a built-in function has no name");
    }
    out += fmt::format("at {:#x}", object.address);
  } else {
    out += name;
  }
  if (!is_function) out += fmt::format(" of {} object at {:#x}", short_name(*self.type), self.address);
  out += '>';
}

void ValueReader::append_descriptor(std::string& out, const Object& object) {
  if (object.kind == Kind::kMethodWrapper) {
    const Object self = find(word(object.address, layout_.wrapperobject.self));
    const Addr descriptor = word(object.address, layout_.wrapperobject.descr);
    const std::string name = name_at(word(descriptor, layout_.PyDescrObject.d_name));
    out += fmt::format("<method-wrapper '{}' of {} object at {:#x}>", name, self ? short_name(*self.type) : "?",
                       self.address);
    return;
  }
  const char* what = object.kind == Kind::kMethodDescriptor    ? "method"
                     : object.kind == Kind::kMemberDescriptor  ? "member"
                     : object.kind == Kind::kWrapperDescriptor ? "slot wrapper"
                                                               : "attribute";
  const TypeBrief owner = types_.classify(word(object.address, layout_.PyDescrObject.d_type));
  std::string owner_name = "?";
  if (owner.id != kNoType) {
    const TypeInfo& info = types_.info(owner.id);
    owner_name = info.is_heap_type ? short_name(info) : type_name(info);
  }
  out += fmt::format("<{} '{}' of '{}' objects>", what, name_at(word(object.address, layout_.PyDescrObject.d_name)),
                     owner_name);
}

void ValueReader::describe_function(Value& value, const Object& object) {
  const auto& fields = layout_.PyFunctionObject;
  const auto field = [&](const Field& which) { return word(object.address, which); };
  add_field(value, "qualname",
            name_at(field(fields.func_qualname.present() ? fields.func_qualname : fields.func_name)));
  const std::string module = name_at(field(fields.func_module));
  if (!module.empty()) add_field(value, "module", module);
  const Addr code = field(fields.func_code);
  if (const Object held = find(code); held.kind == Kind::kCode) {
    add_field(value, "file", code_file(code));
    add_field(value, "line", std::to_string(number(code, layout_.PyCodeObject.co_firstlineno)));
    add_object(value, "code", code);
  } else {
    damaged(object.address, "a function has no code");
  }
  add_object(value, "defaults", field(fields.func_defaults));
  add_object(value, "keyword defaults", field(fields.func_kwdefaults));
  const Addr closure = field(fields.func_closure);
  if (closure == 0) return;
  add_field(value, "closure", names_in(word(code, layout_.PyCodeObject.co_freevars)), closure);
  if (layout_.PyCodeObject.co_localsplusnames.present()) value.fields.back().text = closure_names(code);
  for (const Item& item : containers_.tuple(closure).items)
    value.items.push_back({"", text(item.value), item.value, 0});
}

// From 3.11 on the free variables are those slots that are marked as such.
std::string ValueReader::closure_names(Addr code) {
  constexpr std::uint8_t kFree = 0x80;
  std::string names;
  for (const Slot& slot : slots_of_code(code)) {
    if ((slot.kind & kFree) != 0) names += (names.empty() ? "" : ", ") + name_at(slot.name);
  }
  return names;
}

std::vector<ValueReader::Slot> ValueReader::slots_of_code(Addr code) {
  const auto& fields = layout_.PyCodeObject;
  std::vector<Slot> slots;
  ContainerReader containers(reader_, traits_, kMostLocals);
  const auto add = [&](const Field& field, std::uint8_t kind) {
    const Object names = find(word(code, field));
    if (names.kind != Kind::kTuple) return;
    for (const Item& item : containers.tuple(names.address).items) slots.push_back({item.value, kind});
  };
  if (!fields.co_localsplusnames.present()) {
    add(fields.co_varnames, 0);
    add(fields.co_cellvars, kCellOrFree);
    add(fields.co_freevars, kCellOrFree);
    return slots;
  }
  add(fields.co_localsplusnames, 0);
  const Addr kinds = word(code, fields.co_localspluskinds) + layout_.PyBytesObject.ob_sval.offset;
  for (std::size_t i = 0; i < slots.size(); ++i) slots[i].kind = reader_.load<std::uint8_t>(kinds + i).value_or(0);
  return slots;
}

void ValueReader::describe_code(Value& value, Addr code) {
  const auto& fields = layout_.PyCodeObject;
  add_field(value, "name", name_at(word(code, fields.co_name)));
  add_field(value, "qualname", code_name(code));
  add_field(value, "file", code_file(code));
  add_field(value, "line", std::to_string(number(code, fields.co_firstlineno)));
  add_field(value, "arguments", std::to_string(number(code, fields.co_argcount)));
  std::string locals;
  constexpr std::uint8_t kLocal = 0x20;
  for (const Slot& slot : slots_of_code(code)) {
    const bool is_local = fields.co_localsplusnames.present() ? (slot.kind & kLocal) != 0 : slot.kind == 0;
    if (is_local) locals += (locals.empty() ? "" : ", ") + name_at(slot.name);
  }
  add_field(value, "varnames", locals);
  add_field(value, "names", names_in(word(code, fields.co_names)), word(code, fields.co_names));
  add_object(value, "consts", word(code, fields.co_consts));
}

// ---- frames
// ----------------------------------------------------------------------------------------------------------

// To 3.10 a frame is an object with all its slots; f_lasti counts bytes, in 3.10 instructions.
std::optional<ValueReader::Frame> ValueReader::old_frame(Addr frame) {
  const auto& fields = layout_.PyFrameObject;
  Frame found;
  found.code = word(frame, fields.f_code);
  if (find(found.code).kind != Kind::kCode) return std::nullopt;
  found.lasti = number(frame, fields.f_lasti);
  const bool by_units = !layout_.PyCodeObject.co_lnotab.present();
  found.line = line_of(found.code, by_units && found.lasti > 0 ? found.lasti * kCodeUnitBytes : found.lasti);
  found.first = frame + fields.f_localsplus.offset;
  return found;
}

// Where the instructions lie that a frame executes: behind the code object; in builds without the GIL from 3.14 on each
// thread but the first has a copy of its own (co_tlbc).
Addr ValueReader::bytecode_of(Addr code, Addr frame) {
  const auto& fields = layout_._PyCodeArray;
  const Addr copies = word(code, layout_.PyCodeObject.co_tlbc);
  const std::uint64_t index = word(frame, layout_._PyInterpreterFrame.tlbc_index);
  if (copies != 0 && index != 0 && index < word(copies, fields.size)) {
    const Addr copy = reader_.load<Addr>(copies + fields.entries.offset + index * kWordBytes).value_or(0);
    if (copy != 0) return copy;
  }
  return code + layout_.PyCodeObject.co_code_adaptive.offset;
}

std::optional<ValueReader::Frame> ValueReader::interpreter_frame(Addr frame) {
  const auto& fields = layout_._PyInterpreterFrame;
  Frame found;
  // Low bits of references are flags from 3.14 on.
  found.code = align_down(word(frame, fields.f_code.present() ? fields.f_code : fields.f_executable), 8);
  if (find(found.code).kind != Kind::kCode) return std::nullopt;
  const Addr first_instruction = bytecode_of(found.code, frame);
  const Addr at = word(frame, fields.prev_instr.present() ? fields.prev_instr : fields.instr_ptr);
  found.lasti = static_cast<std::int64_t>(at - first_instruction);
  found.line = line_of(found.code, found.lasti);
  found.first = frame + fields.localsplus.offset;
  return found;
}

std::optional<ValueReader::Frame> ValueReader::frame_at(const Object& frame) {
  const auto& fields = layout_.PyFrameObject;
  if (fields.f_code.present()) return old_frame(frame.address);
  return interpreter_frame(word(frame.address, fields.f_frame));
}

std::string FramePlace::text() const {
  return fmt::format("{} ({}:{})", function, file, line);
}

FramePlace ValueReader::place_of(const Frame& frame) {
  return {code_name(frame.code), code_file(frame.code), frame.line};
}

std::optional<FramePlace> ValueReader::place_of_frame(Addr frame) {
  const bool is_object = layout_.PyFrameObject.f_code.present();
  const std::optional<Frame> found = is_object ? old_frame(frame) : interpreter_frame(frame);
  return found ? std::optional(place_of(*found)) : std::nullopt;
}

std::optional<FramePlace> ValueReader::place_inside(Addr address) {
  std::optional<Frame> frame;
  const Object object = find(address);
  const bool is_generator =
      object.kind == Kind::kGenerator || object.kind == Kind::kCoroutine || object.kind == Kind::kAsyncGenerator;
  if (is_generator) {
    generator_state(object, frame);
  } else if (object.kind == Kind::kFrame) {
    frame = frame_at(object);
  }
  return frame ? std::optional(place_of(*frame)) : std::nullopt;
}

void ValueReader::add_frame(Value& value, const Frame& frame) {
  add_field(value, "function", code_name(frame.code));
  add_field(value, "file", code_file(frame.code));
  add_field(value, "line", std::to_string(frame.line));
  add_object(value, "code", frame.code);
}

void ValueReader::add_locals(Value& value, const Frame& frame) {
  Addr at = frame.first;
  for (const Slot& slot : slots_of_code(frame.code)) {
    constexpr std::uint64_t kTaggedInt = 3;  // of 3.15: no reference
    const Addr word_here = reader_.load<Addr>(at).value_or(0);
    at += kWordBytes;
    Addr held = align_down(word_here, 8);
    if (held == 0 || (word_here & 7) == kTaggedInt) continue;
    if ((slot.kind & kCellOrFree) != 0) {
      if (const Object cell = find(held); cell.kind == Kind::kCell) held = word(held, layout_.PyCellObject.ob_ref);
      if (held == 0) continue;
    }
    value.locals.push_back({name_at(slot.name), text(held), held, 0});
  }
}

std::string_view ValueReader::generator_state(const Object& object, std::optional<Frame>& frame) {
  const auto& fields = layout_.PyGenObject;
  if (traits_.gen_state == GenState::kByFrame) {
    const Object held = find(word(object.address, fields.gi_frame));
    if (held.kind != Kind::kFrame) return "closed";
    frame = frame_at(held);
    constexpr std::int64_t kExecuting = 0;  // FRAME_EXECUTING, which 3.10 has in place of gi_running
    const Field& state = layout_.PyFrameObject.f_state;
    const bool running = fields.gi_running.present() ? word(object.address, fields.gi_running) != 0
                                                     : number(held.address, state) == kExecuting;
    if (running) return "running";
    return frame && frame->lasti < 0 ? "created" : "suspended";
  }
  const std::int64_t state = number(object.address, fields.gi_frame_state);
  std::int64_t first = 0;
  std::int64_t executing = 0;
  switch (traits_.gen_state) {
    case GenState::kFromMinusTwo:
      first = -2;
      break;
    case GenState::kFromMinusThree:
      first = -3;
      break;
    default:
      executing = 4;
      break;
  }
  if (state > executing) return "closed";
  frame = interpreter_frame(object.address + fields.gi_iframe.offset);
  return state == first ? "created" : state == executing ? "running" : "suspended";
}

void ValueReader::describe_generator(Value& value, const Object& object) {
  std::optional<Frame> frame;
  const std::string_view state = generator_state(object, frame);
  add_field(value, "state", std::string(state));
  if (!frame) return;
  add_frame(value, *frame);
  // While it runs, its locals are in the frame all the same.
  add_locals(value, *frame);
}

// "file:line in function", the outermost first.
std::string ValueReader::traceback_text(Addr traceback) {
  const auto& fields = layout_.PyTracebackObject;
  std::string lines;
  std::vector<Addr> seen;
  for (int i = 0; traceback != 0 && i < kMostTracebacks; ++i) {
    const Object frame_object = find(word(traceback, fields.tb_frame));
    if (frame_object.kind != Kind::kFrame || std::find(seen.begin(), seen.end(), traceback) != seen.end()) {
      damaged(traceback, "a traceback leads nowhere");
      break;
    }
    seen.push_back(traceback);
    const std::optional<Frame> frame = frame_at(frame_object);
    if (!frame) break;
    std::int64_t line = number(traceback, fields.tb_lineno);
    // 3.13+: asked for when needed; tb_lasti counts bytes.
    if (line == -1) line = line_of(frame->code, number(traceback, fields.tb_lasti));
    lines +=
        fmt::format("{}{}:{} in {}", lines.empty() ? "" : "; ", code_file(frame->code), line, code_name(frame->code));
    traceback = word(traceback, fields.tb_next);
  }
  return lines;
}

}  // namespace heapcore

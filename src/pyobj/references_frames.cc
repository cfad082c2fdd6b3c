// The references of code, frames and generators.
//
// To 3.10 a frame is an object with its locals and its stack behind it. From 3.11 on a _PyInterpreterFrame lies on the
// thread's own stack, in a generator, or in a frame object, and is followed by
//
//   | locals, cells, free variables: co_nlocalsplus | evaluation stack, as far as stacktop or stackpointer say |
//
// A running frame does not say where its stack ends (stacktop -1, stackpointer null): tp_traverse then visits none of
// it. From 3.14 on the lowest bits of what lies there are flags (_PyStackRef): 1 borrowed, deferred or a null, 3 a
// tagged integer. What is borrowed or deferred its count does not count, and the collector takes it for no reference
// that it might subtract (_PyGC_VisitStackRef).
#include <algorithm>

#include "pyobj/references.h"
#include "pyobj/strings.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kMaxSlots = 1 << 20;  // of one frame
constexpr std::uint64_t kStackRefFlags = 3;
constexpr std::uint64_t kTaggedInt = 3;
constexpr std::uint64_t kUncountedFlag = 1;

EdgeName named(const char* field, std::uint64_t uncounted = 0) {
  return {What::kField, field, 0, uncounted};
}

// Whether a frame may run what is there: a code object, or what the snapshot does not hold.
bool may_be_code(Reader& reader, const PyLayout& layout, TypeTable& types, Addr code) {
  Addr type = 0;
  if (!reader.try_load(code + layout.PyObject.ob_type.offset, type)) return true;
  const TypeId id = types.classify(type).id;
  return id != kNoType && types.shared_info(id).kind == Kind::kCode;
}

}  // namespace

void ReferenceReader::visit_frame(Addr frame, RefKind kind, const Sink& visit) {
  const auto& fields = layout_._PyInterpreterFrame;
  const Bytes head = elsewhere_.span(frame, fields.localsplus.offset);
  if (head.empty()) return damaged(frame, "a frame is not in the snapshot");
  const bool stack_refs = fields.stackpointer.present();
  const auto plain = [&](std::uint64_t word) {
    if (!stack_refs) return word;
    return (word & kStackRefFlags) == kTaggedInt ? 0 : word & ~kStackRefFlags;
  };
  const auto uncounted = [&](std::uint64_t word) {
    return stack_refs && (word & kStackRefFlags) == kUncountedFlag ? EdgeName::kUncounted : 0;
  };
  const std::uint64_t function = field(head, fields.f_func.present() ? fields.f_func : fields.f_funcobj);
  const std::uint64_t executable = field(head, fields.f_code.present() ? fields.f_code : fields.f_executable);
  const Addr code = plain(executable);
  visit(field(head, fields.frame_obj), kind, named("frame_obj"));
  visit(field(head, fields.f_locals), kind, named("f_locals"));
  visit(plain(function), kind, named("f_func", uncounted(function)));
  visit(code, kind, named("f_code", uncounted(executable)));
  // A damaged chain can lead through memory that holds no frames; each would claim what lies behind it.
  if (!may_be_code(elsewhere_, layout_, types_, code)) return damaged(frame, "a frame runs what is no code object");
  std::uint32_t locals = 0;
  std::uint32_t stack_slots = 0;
  const bool sized = elsewhere_.try_load(code + layout_.PyCodeObject.co_stacksize.offset, stack_slots);
  elsewhere_.try_load(code + layout_.PyCodeObject.co_nlocalsplus.offset, locals);
  std::uint64_t count = 0;
  bool running = false;
  const Addr first = frame + fields.localsplus.offset;
  if (stack_refs) {
    const Addr top = field(head, fields.stackpointer);
    running = top == 0;
    if (!running && (top < first || top - first > kMaxSlots * kWordBytes))
      return damaged(frame, "a frame's stack pointer is damaged; its locals are not followed");
    count = running ? 0 : (top - first) / kWordBytes;
  } else {
    const auto top = static_cast<std::int32_t>(field(head, fields.stacktop));
    running = top < 0;
    count = running ? 0 : static_cast<std::uint64_t>(top);
  }
  if (running) {
    count = locals;
    kind = RefKind::kOwned;
  }
  if (count > kMaxSlots || (sized && count > std::uint64_t{locals} + stack_slots))
    return damaged(frame, "a frame's size is damaged; its locals are not followed");
  const Bytes slots = words_at(frame, first, count);
  for (std::uint64_t i = 0; i < slots.size() / kWordBytes; ++i) {
    const std::uint64_t slot = word(slots, i * kWordBytes);
    const EdgeName name = i < locals ? EdgeName{What::kLocal, "", code, i | uncounted(slot)}
                                     : EdgeName{What::kStack, "", code, (i - locals) | uncounted(slot)};
    visit(plain(slot), kind, name);
  }
}

void ReferenceReader::visit_frame_object(const ObjectView& object, const ReferencePlan& plan, Bytes bytes,
                                         const Sink& visit) {
  const auto& fields = layout_.PyFrameObject;
  visit(field(bytes, fields.f_back), plan.inner, named("f_back"));
  visit(field(bytes, fields.f_trace), plan.inner, named("f_trace"));
  if (fields.f_code.present()) return visit_old_frame(object, plan, bytes, visit);
  visit(field(bytes, fields.f_extra_locals), plan.inner, named("f_extra_locals"));
  visit(field(bytes, fields.f_locals_cache), plan.inner, named("f_locals_cache"));
  visit(field(bytes, fields.f_overwritten_fast_locals), plan.inner, named("f_overwritten_fast_locals"));
  // Only a frame that has ended lies in its object; others belong to their thread or generator.
  const Addr frame = field(bytes, fields.f_frame);
  if (frame == object.address + fields._f_frame_data.offset) return visit_frame(frame, plan.inner, visit);
  if (elsewhere_.span(frame, kWordBytes).empty())
    damaged(object.address, "what a frame stands for is not in the snapshot");
}

void ReferenceReader::visit_old_frame(const ObjectView& object, const ReferencePlan& plan, Bytes bytes,
                                      const Sink& visit) {
  const auto& fields = layout_.PyFrameObject;
  const Addr code = field(bytes, fields.f_code);
  visit(code, plan.inner, named("f_code"));
  visit(field(bytes, fields.f_builtins), plan.inner, named("f_builtins"));
  visit(field(bytes, fields.f_globals), plan.inner, named("f_globals"));
  visit(field(bytes, fields.f_locals), plan.inner, named("f_locals"));
  visit(field(bytes, fields.f_exc_type), plan.inner, named("f_exc_type"));
  visit(field(bytes, fields.f_exc_value), plan.inner, named("f_exc_value"));
  visit(field(bytes, fields.f_exc_traceback), plan.inner, named("f_exc_traceback"));
  const auto of_code = [&](const Field& at) {
    Addr value = 0;
    elsewhere_.try_load(code + at.offset, value);
    return value;
  };
  std::uint32_t nlocals = 0;
  elsewhere_.try_load(code + layout_.PyCodeObject.co_nlocals.offset, nlocals);
  const std::uint64_t locals = nlocals + tuple_length(of_code(layout_.PyCodeObject.co_cellvars)) +
                               tuple_length(of_code(layout_.PyCodeObject.co_freevars));
  const Addr first = object.address + fields.f_localsplus.offset;
  if (locals > kMaxSlots) return damaged(object.address, "a frame's code is damaged; its locals are not followed");
  const Bytes slots = words_at(object.address, first, locals);
  for (std::uint64_t i = 0; i < slots.size() / kWordBytes; ++i)
    visit(word(slots, i * kWordBytes), plan.inner, EdgeName{What::kLocal, "", code, i});
  const Addr stack = field(bytes, fields.f_valuestack);
  std::uint64_t depth = 0;
  if (fields.f_stackdepth.present()) {
    const auto value = static_cast<std::int32_t>(field(bytes, fields.f_stackdepth));
    depth = value < 0 ? 0 : static_cast<std::uint64_t>(value);
  } else {
    const Addr top = field(bytes, fields.f_stacktop);
    depth = top > stack ? (top - stack) / kWordBytes : 0;
  }
  if (depth > kMaxSlots) return damaged(object.address, "a frame's stack is damaged; it is not followed");
  const Bytes values = words_at(object.address, stack, depth);
  for (std::uint64_t i = 0; i < values.size() / kWordBytes; ++i)
    visit(word(values, i * kWordBytes), plan.inner, EdgeName{What::kStack, "", code, i});
}

void ReferenceReader::visit_generator(const ObjectView& object, const ReferencePlan& plan, Bytes bytes,
                                      const Sink& visit) {
  const auto& fields = layout_.PyGenObject;
  const bool embedded = fields.gi_iframe.present();
  visit(field(bytes, fields.gi_name), plan.inner, named("__name__"));
  visit(field(bytes, fields.gi_qualname), plan.inner, named("__qualname__"));
  visit(field(bytes, fields.gi_frame), plan.inner, named("gi_frame"));
  visit(field(bytes, fields.gi_code), plan.inner, named("gi_code"));
  visit(field(bytes, fields.exc_type), plan.inner, named("exc_type"));
  visit(field(bytes, fields.exc_value), plan.inner, named("exc_value"));
  visit(field(bytes, fields.exc_traceback), plan.inner, named("exc_traceback"));
  // A generator has neither an origin nor a finalizer, and leaves the place as it was.
  const RefKind finalizer = plan.kind == Kind::kAsyncGenerator ? plan.inner : RefKind::kOwned;
  if (fields.origin_or_finalizer.present() && plan.kind != Kind::kGenerator) {
    visit(field(bytes, fields.origin_or_finalizer), finalizer, named("origin_or_finalizer"));
  } else if (plan.kind == Kind::kAsyncGenerator) {
    visit(field(bytes, layout_.PyAsyncGenObject.ag_finalizer), finalizer, named("ag_finalizer"));
  } else if (plan.kind == Kind::kCoroutine) {
    visit(field(bytes, layout_.PyCoroObject.cr_origin), RefKind::kOwned, named("cr_origin"));
  }
  if (!embedded) return;
  const auto state = static_cast<std::int8_t>(field(bytes, fields.gi_frame_state));
  if (state < traits_.frame_cleared) return visit_frame(object.address + fields.gi_iframe.offset, plan.inner, visit);
  // What is left of the frame is its code.
  const auto& frame = layout_._PyInterpreterFrame;
  if (fields.gi_code.present() || fields.gi_iframe.offset + kWordBytes > bytes.size()) return;
  const Field& code = frame.f_code.present() ? frame.f_code : frame.f_executable;
  const Addr at = field(bytes.subspan(fields.gi_iframe.offset), code);
  visit(align_down(at, kWordBytes), traits_.cleared_generator_visits_code ? plan.inner : RefKind::kOwned,
        named("gi_code"));
}

// Code is an object of the collector's in free-threaded builds only, and visits its constants.
void ReferenceReader::visit_code(const ObjectView& object, const ReferencePlan& plan, Bytes bytes, const Sink& visit) {
  const auto& fields = layout_.PyCodeObject;
  const std::pair<const Field*, const char*> kHeld[] = {
      {&fields.co_names, "co_names"},
      {&fields.co_varnames, "co_varnames"},
      {&fields.co_cellvars, "co_cellvars"},
      {&fields.co_freevars, "co_freevars"},
      {&fields.co_code, "co_code"},
      {&fields.co_filename, "co_filename"},
      {&fields.co_name, "co_name"},
      {&fields.co_qualname, "co_qualname"},
      {&fields.co_linetable, "co_linetable"},
      {&fields.co_lnotab, "co_lnotab"},
      {&fields.co_exceptiontable, "co_exceptiontable"},
      {&fields.co_localsplusnames, "co_localsplusnames"},
      {&fields.co_localspluskinds, "co_localspluskinds"},
      {&fields._co_code, "co_code"},
  };
  visit(field(bytes, fields.co_consts), plan.inner, named("co_consts"));
  for (const auto& [at, name] : kHeld) visit(field(bytes, *at), RefKind::kOwned, named(name));
  visit(field(bytes, fields.co_extra), RefKind::kBuffer, named("co_extra"));
  visit(field(bytes, fields.co_cell2arg), RefKind::kBuffer, named("co_cell2arg"));
  visit(field(bytes, fields.co_opcache), RefKind::kBuffer, named("co_opcache"));
  visit(field(bytes, fields._co_linearray), RefKind::kBuffer, named("co_linearray"));
  visit(field(bytes, fields.co_executors), RefKind::kBuffer, named("co_executors"));
  // A frame kept for the next call is no live object: a block.
  const Addr zombie = field(bytes, fields.co_zombieframe);
  if (zombie != 0) visit(zombie - traits_.gc_head_bytes(), RefKind::kBuffer, named("co_zombieframe"));
  const Addr cached = field(bytes, fields._co_cached);
  if (cached == 0) return;
  visit(cached, RefKind::kBuffer, named("co_cached"));
  const auto& more = layout_._PyCoCached;
  const Bytes words = elsewhere_.span(cached, more.size_bytes);
  if (words.empty()) return damaged(object.address, "what a code object keeps of itself is not in the snapshot");
  visit(field(words, more._co_code), RefKind::kOwned, named("co_code"));
  visit(field(words, more._co_varnames), RefKind::kOwned, named("co_varnames"));
  visit(field(words, more._co_cellvars), RefKind::kOwned, named("co_cellvars"));
  visit(field(words, more._co_freevars), RefKind::kOwned, named("co_freevars"));
}

}  // namespace heapcore

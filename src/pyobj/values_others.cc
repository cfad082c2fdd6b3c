// Exceptions, tasks, modules, references to other objects, and the rest. Part of ValueReader (values.h).
#include <fmt/format.h>

#include "pyobj/strings.h"
#include "pyobj/values.h"

namespace heapcore {
namespace {

// fut_state and task_state (Modules/_asynciomodule.c).
constexpr const char* kFutureStates[] = {"pending", "cancelled", "finished"};

}  // namespace

std::string ValueReader::module_text(const Object& object, const char* key) {
  const Addr dict = word(object.address, layout_.PyModuleObject.md_dict);
  if (!find(dict)) return "";
  const auto held = dict_get(reader_, traits_, dict, key);
  return held ? name_at(*held) : "";
}

// Of a mappingproxy; of 2.7's dictproxy.
Addr ValueReader::proxied(Addr proxy) {
  const Field& mapping = layout_.mappingproxyobject.mapping;
  return word(proxy, mapping.present() ? mapping : layout_.proxyobject.dict);
}

void ValueReader::append_weakref(std::string& out, const Object& object) {
  const TypeBrief base = types_.classify(object.type->kind_type);
  const bool is_proxy = base.id != kNoType && types_.info(base.id).name.find("roxy") != std::string::npos;
  const Object target = find(word(object.address, layout_.PyWeakReference.wr_object));
  out += fmt::format("<{} at {:#x}; ", is_proxy ? "weakproxy" : "weakref", object.address);
  if (!target || target.kind == Kind::kNone) {
    out += "dead>";
  } else {
    out += fmt::format("to '{}' at {:#x}>", type_name(*target.type), target.address);
  }
}

void ValueReader::append_partial(std::string& out, const Object& object) {
  const auto& fields = layout_.partialobject;
  out += "functools." + short_name(*object.type) + "(";
  append(out, word(object.address, fields.fn));
  if (const Object args = find(word(object.address, fields.args)); args.kind == Kind::kTuple) {
    for (const Item& item : containers_.tuple(args.address).items) {
      out += ", ";
      append(out, item.value);
    }
  }
  if (const Object kw = find(word(object.address, fields.kw)); kw && kw.kind == Kind::kDict) {
    for (const Item& item : containers_.dict(kw.address).items) {
      out += ", " + name_at(item.key) + "=";
      append(out, item.value);
    }
  }
  out += ')';
}

void ValueReader::append_exception(std::string& out, const Object& object) {
  const Addr args = word(object.address, layout_.PyBaseExceptionObject.args);
  out += short_name(*object.type);
  const Object held = find(args);
  if (held.kind != Kind::kTuple) {
    out += "(?)";
    return;
  }
  const Items found = containers_.tuple(args);
  out += '(';
  for (const Item& item : found.items) {
    if (&item != found.items.data()) out += ", ";
    append(out, item.value);
  }
  out += ')';
}

void ValueReader::append_other(std::string& out, const Object& object) {
  const Addr address = object.address;
  switch (object.kind) {
    case Kind::kType: {
      const TypeBrief brief = types_.classify(address);
      const bool as_type =
          layout_.PyIntObject.ob_ival.present() && brief.id != kNoType && !types_.info(brief.id).is_heap_type;
      out += fmt::format("<{} '{}'>", as_type ? "type" : "class",
                         brief.id == kNoType ? "?" : type_name(types_.info(brief.id)));
      break;
    }
    case Kind::kModule: {
      std::string name = name_at(word(address, layout_.PyModuleObject.md_name));
      if (name.empty()) name = module_text(object, "__name__");
      out += fmt::format("<module '{}'>", name);
      break;
    }
    case Kind::kCell: {
      const Object held = find(word(address, layout_.PyCellObject.ob_ref));
      out += held ? fmt::format("<cell at {:#x}: {} object at {:#x}>", address, short_name(*held.type), held.address)
                  : fmt::format("<cell at {:#x}: empty>", address);
      break;
    }
    case Kind::kWeakref:
      append_weakref(out, object);
      break;
    case Kind::kStaticMethod:
    case Kind::kClassMethod:
      out += fmt::format("<{}(", short_name(*object.type));
      append(out, word(address, object.kind == Kind::kStaticMethod ? layout_.staticmethod.sm_callable
                                                                   : layout_.classmethod.cm_callable));
      out += ")>";
      break;
    case Kind::kMappingProxy:
      out += object.type->name + "(";
      append(out, proxied(address));
      out += ')';
      break;
    case Kind::kDictView:
      append_dict_view(out, object);
      break;
    case Kind::kSlice:
      out += "slice(";
      append(out, word(address, layout_.PySliceObject.start));
      out += ", ";
      append(out, word(address, layout_.PySliceObject.stop));
      out += ", ";
      append(out, word(address, layout_.PySliceObject.step));
      out += ')';
      break;
    case Kind::kException:
      append_exception(out, object);
      break;
    case Kind::kPartial:
      append_partial(out, object);
      break;
    case Kind::kMemoryView:
      out += fmt::format("<memory at {:#x}>", address);
      break;
    case Kind::kDateTime:
      append_datetime(out, object);
      break;
    case Kind::kClassicInstance: {
      const Addr cls = word(address, layout_.PyInstanceObject.in_class);
      const Addr dict = word(cls, layout_.PyClassObject.cl_dict);
      const auto module = find(dict) ? dict_get(reader_, traits_, dict, "__module__") : std::nullopt;
      out += fmt::format("<{}.{} instance at {:#x}>", module ? name_at(*module) : "?",
                         name_at(word(cls, layout_.PyClassObject.cl_name)), address);
      break;
    }
    case Kind::kClassicClass: {
      const Addr dict = word(address, layout_.PyClassObject.cl_dict);
      const auto module = find(dict) ? dict_get(reader_, traits_, dict, "__module__") : std::nullopt;
      out += fmt::format("<class {}.{} at {:#x}>", module ? name_at(*module) : "?",
                         name_at(word(address, layout_.PyClassObject.cl_name)), address);
      break;
    }
    default:
      out += fmt::format("<{} object at {:#x}>", type_name(*object.type), address);
      break;
  }
}

void ValueReader::describe_exception(Value& value, const Object& object) {
  const auto& fields = layout_.PyBaseExceptionObject;
  add_object(value, "args", word(object.address, fields.args));
  const Addr traceback = word(object.address, fields.traceback);
  if (find(traceback).kind == Kind::kTraceback) add_field(value, "traceback", traceback_text(traceback), traceback);
  add_object(value, "cause", word(object.address, fields.cause));
  add_object(value, "context", word(object.address, fields.context));
}

template <typename Fields>
void ValueReader::describe_future(Value& value, const Object& object, const Fields& fields) {
  const std::uint64_t state = word(object.address, fields.state);
  add_field(value, "state", state < std::size(kFutureStates) ? kFutureStates[state] : "unknown");
  add_object(value, "result", word(object.address, fields.result));
  const Object exception = find(word(object.address, fields.exception));
  if (exception && exception.kind != Kind::kNone) add_object(value, "exception", exception.address);
  add_object(value, "loop", word(object.address, fields.loop));
}

void ValueReader::describe_lru_cache(Value& value, const Object& object) {
  const auto& fields = layout_.lru_cache_object;
  add_object(value, "function", word(object.address, fields.func));
  add_field(value, "hits", std::to_string(number(object.address, fields.hits)));
  add_field(value, "misses", std::to_string(number(object.address, fields.misses)));
  // To 3.7 the bound is an object, kept beside the number.
  const std::int64_t maxsize = number(object.address, fields.maxsize);
  const Object bound = find(word(object.address, fields.maxsize_O));
  const bool unbounded = bound ? bound.kind == Kind::kNone : maxsize < 0;
  add_field(value, "maxsize", unbounded ? "None" : std::to_string(maxsize));
  const Addr cache = word(object.address, fields.cache);
  if (find(cache)) add_field(value, "entries", std::to_string(containers_.dict(cache).length), cache);
}

void ValueReader::describe_other(Value& value, const Object& object) {
  const Addr address = object.address;
  switch (object.kind) {
    case Kind::kException:
      describe_exception(value, object);
      break;
    case Kind::kTraceback:
      add_field(value, "traceback", traceback_text(address));
      break;
    case Kind::kFuture:
      describe_future(value, object, layout_.FutureObj);
      break;
    case Kind::kTask: {
      describe_future(value, object, layout_.TaskObj);
      add_object(value, "coroutine", word(address, layout_.TaskObj.coro));
      add_object(value, "waits for", word(address, layout_.TaskObj.fut_waiter));
      const Object name = find(word(address, layout_.TaskObj.name));
      if (name.kind == Kind::kStr) add_field(value, "name", name_at(name.address), name.address);
      // From 3.12 on a task that nobody named keeps a number, of which it makes the name when asked.
      if (name.kind == Kind::kInt) add_field(value, "name", "Task-" + text(name.address), name.address);
      break;
    }
    case Kind::kModule: {
      std::string name = name_at(word(address, layout_.PyModuleObject.md_name));
      add_field(value, "name", name.empty() ? module_text(object, "__name__") : name);
      const std::string file = module_text(object, "__file__");
      if (!file.empty()) add_field(value, "file", file);
      break;
    }
    case Kind::kMethod:
      add_object(value, "function", word(address, layout_.PyMethodObject.im_func));
      add_object(value, "self", word(address, layout_.PyMethodObject.im_self));
      break;
    case Kind::kBuiltinFunction:
      add_object(value, "self", word(address, layout_.PyCFunctionObject.m_self));
      add_object(value, "module", word(address, layout_.PyCFunctionObject.m_module));
      break;
    case Kind::kCell:
      add_object(value, "contents", word(address, layout_.PyCellObject.ob_ref));
      break;
    case Kind::kWeakref:
      add_object(value, "target", word(address, layout_.PyWeakReference.wr_object));
      add_object(value, "callback", word(address, layout_.PyWeakReference.wr_callback));
      break;
    case Kind::kProperty:
      add_object(value, "get", word(address, layout_.propertyobject.prop_get));
      add_object(value, "set", word(address, layout_.propertyobject.prop_set));
      add_object(value, "del", word(address, layout_.propertyobject.prop_del));
      break;
    case Kind::kStaticMethod:
      add_object(value, "function", word(address, layout_.staticmethod.sm_callable));
      break;
    case Kind::kClassMethod:
      add_object(value, "function", word(address, layout_.classmethod.cm_callable));
      break;
    case Kind::kMappingProxy:
      add_object(value, "mapping", proxied(address));
      break;
    case Kind::kDictView:
      add_object(value, "dict", viewed_dict(address));
      break;
    case Kind::kPartial:
      add_object(value, "function", word(address, layout_.partialobject.fn));
      add_object(value, "args", word(address, layout_.partialobject.args));
      add_object(value, "keywords", word(address, layout_.partialobject.kw));
      break;
    case Kind::kLruCache:
      describe_lru_cache(value, object);
      break;
    case Kind::kStr:
      if (const StrData data = read_str(reader_, traits_, address); data.sound) value.length = data.length;
      break;
    case Kind::kUnicode:
      value.length = word(address, layout_.PyUnicodeObject.length);
      break;
    case Kind::kBytes:
    case Kind::kByteArray:
    case Kind::kArray:
      value.length = word(address, layout_.PyVarObject.ob_size);
      break;
    default:
      break;
  }
}

}  // namespace heapcore

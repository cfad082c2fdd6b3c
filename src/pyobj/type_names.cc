#include "pyobj/type_names.h"

#include <algorithm>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include "pyobj/runtime_search.h"
#include "pyobj/static_type_tables.h"
#include "pyobj/static_types.h"
#include "pyobj/strings.h"

namespace heapcore {
namespace {

using namespace static_type_tables;

constexpr std::size_t kMaxNameBytes = 1024;
constexpr std::size_t kMaxBuiltinModules = 4096;
constexpr std::size_t kMaxItems = std::size_t{1} << 22;

std::string public_module(const std::string& name) {
  for (const auto& [module, known_as] : kPublicModules) {
    if (name == module) return known_as;
  }
  return name;
}

class NameSearch {
 public:
  NameSearch(const Snapshot& snapshot, const PyRuntime& runtime)
      : snapshot_(snapshot), runtime_(runtime), layout_(*runtime.traits.layout), reader_(snapshot.space) {}

  std::unordered_map<Addr, std::string> run() {
    by_symbols();
    if (runtime_.interpreters.empty()) return std::move(names_);
    find_modules();
    by_builtins();
    by_held_types();
    by_held_values();
    by_sys();
    by_attributes();
    by_marks();
    by_defining_modules();
    by_any_holder();
    return std::move(names_);
  }

 private:
  struct Holder {
    std::size_t module = 0;  // in modules_
    std::string key;
    Addr type = 0;
  };
  struct HeldModule {
    std::string name;
    Addr address = 0;
    Addr dict = 0;
    bool builtin = false;
    std::string file;  // the last part of __file__
  };

  Addr load(Addr address, const Field& field) {
    Addr value = 0;
    return field.present() && reader_.try_load(address + field.offset, value) ? value : 0;
  }
  Addr type_of(Addr object) { return object < 4096 ? 0 : load(object, layout_.PyObject.ob_type); }
  std::uint64_t flags_of(Addr type) { return type == 0 ? 0 : load(type, layout_.PyTypeObject.tp_flags); }

  bool is_static_type(Addr address) {
    if (address < 4096 || !is_aligned(address, 8)) return false;
    const Addr metatype = type_of(address);
    if (metatype != runtime_.type_type &&
        ((flags_of(metatype) & tp_flag::kTypeSubclass) == 0 || type_of(metatype) != runtime_.type_type)) {
      return false;
    }
    return (flags_of(address) & (tp_flag::kReady | tp_flag::kHeapType)) == tp_flag::kReady;
  }

  // A damaged target may lead from everywhere to the same large dicts; so there is a limit to all items looked at.
  std::vector<std::pair<Addr, Addr>> items(Addr dict) {
    if (items_seen_ > kMaxItems) return {};
    std::vector<std::pair<Addr, Addr>> result = dict_items(reader_, runtime_.traits, dict);
    items_seen_ += result.size() + 1;
    return result;
  }

  bool is_dict(Addr object) { return (flags_of(type_of(object)) & tp_flag::kDictSubclass) != 0; }

  std::optional<std::string> text(Addr str) {
    return str < 4096 ? std::nullopt : decode_str(reader_, runtime_.traits, str, kMaxNameBytes);
  }

  // What was found first stays.
  void name(Addr type, std::string tp_name) {
    if (is_static_type(type)) names_.try_emplace(type, std::move(tp_name));
  }

  Addr named(std::string_view tp_name) const {
    for (const auto& [type, known] : names_) {
      if (known == tp_name) return type;
    }
    return 0;
  }

  const Module* module_of(Addr type) const {
    for (const Module& module : snapshot_.modules) {
      // .bss lies right behind.
      if (type >= module.range.start && type < module.range.end) return &module;
    }
    return nullptr;
  }

  void by_symbols() {
    for (const Module& module : snapshot_.modules) {
      if (module.path != runtime_.module_path) continue;
      if (runtime_.traits.str_rep == StrRep::kTwoTypes) by_symbols(module, kExportedOf2);
      by_symbols(module, kExported);
    }
  }

  void by_symbols(const Module& module, std::span<const Named> exported) {
    for (const Named& known : exported) {
      if (const auto symbol = module.symbol(known.symbol, snapshot_.space)) name(symbol->address, known.tp_name);
    }
  }

  void find_modules() {
    const Addr interpreter = runtime_.interpreters.back().address;
    sysdict_ = load(interpreter, layout_.PyInterpreterState.sysdict);
    Addr modules = load(interpreter, layout_.PyInterpreterState.modules);
    if (modules == 0) modules = load(interpreter, layout_.PyInterpreterState.imports_modules);
    if (modules == 0) modules = dict_get(reader_, runtime_.traits, sysdict_, "modules").value_or(0);
    if (!is_dict(modules)) return;
    const std::set<std::string> builtin = builtin_module_names();
    for (const auto& [key, value] : items(modules)) {
      HeldModule module;
      module.name = text(key).value_or("");
      module.address = value;
      module.dict = load(value, layout_.PyModuleObject.md_dict);
      if (module.name.empty() || !is_dict(module.dict)) continue;
      module.builtin = builtin.contains(module.name);
      look_into(module);
      modules_.push_back(std::move(module));
    }
  }

  void look_into(HeldModule& module) {
    constexpr std::string_view kFile = "__file__";
    for (const auto& [key, value] : items(module.dict)) {
      if (is_static_type(value)) {
        if (auto decoded = text(key)) holders_.push_back({modules_.size(), std::move(*decoded), value});
      } else if (decode_str(reader_, runtime_.traits, key, kFile.size()) == kFile) {
        module.file = text(value).value_or("");
        module.file.erase(0, module.file.rfind('/') + 1);
      }
    }
  }

  // sys.builtin_module_names, a tuple.
  std::set<std::string> builtin_module_names() {
    std::set<std::string> names;
    const Addr tuple = dict_get(reader_, runtime_.traits, sysdict_, "builtin_module_names").value_or(0);
    if ((flags_of(type_of(tuple)) & tp_flag::kTupleSubclass) == 0) return names;
    const std::uint64_t count = load(tuple, layout_.PyVarObject.ob_size);
    for (std::uint64_t i = 0; i < std::min<std::uint64_t>(count, kMaxBuiltinModules); ++i) {
      Addr item = 0;
      if (!reader_.try_load(tuple + layout_.PyTupleObject.ob_item.offset + i * 8, item)) break;
      if (const auto decoded = text(item)) names.insert(*decoded);
    }
    return names;
  }

  // What `types` offers is `_types`' (3.14+).
  bool defines(const Holder& holder, std::string_view module) const {
    const std::string& name = modules_[holder.module].name;
    return name == module || (module == "types" && name == "_types");
  }

  const HeldModule* module_named(std::string_view wanted) const {
    for (const HeldModule& module : modules_) {
      if (module.name == wanted) return &module;
    }
    return nullptr;
  }

  Addr held(std::string_view module_name, std::string_view key) {
    const HeldModule* module = module_named(module_name);
    return module == nullptr ? 0 : dict_get(reader_, runtime_.traits, module->dict, key).value_or(0);
  }

  // 2.7's exceptions have a module of their own. An alias (IOError) comes after the name itself.
  void by_builtins() {
    name(held("__builtin__", "str"), "str");  // 2.7 calls it bytes as well
    for (const char* builtins : {"exceptions", "builtins", "__builtin__"}) {
      for (const Holder& holder : holders_) {
        if (modules_[holder.module].name != builtins) continue;
        const bool bare = std::string_view(builtins) != "exceptions";
        name(holder.type, bare ? holder.key : "exceptions." + holder.key);
      }
    }
  }

  void by_held_types() {
    for (const Held& known : kHeldTypes) {
      for (const Holder& holder : holders_) {
        if (holder.key == known.key && defines(holder, known.module)) name(holder.type, known.tp_name);
      }
    }
    const bool as_held = runtime_.traits.static_types_named_as_held;
    const Held weak[] = {
        {"_weakref", "ReferenceType", as_held ? "weakref.ReferenceType" : "weakref"},
        {"_weakref", "ProxyType", as_held ? "weakref.ProxyType" : "weakproxy"},
        {"_weakref", "CallableProxyType", as_held ? "weakref.CallableProxyType" : "weakcallableproxy"}};
    for (const char* key : {"Context", "ContextVar", "Token"}) {
      name(held("_contextvars", key), as_held ? std::string("_contextvars.") + key : key);
    }
    for (const Held& known : weak) name(held(known.module, known.key), known.tp_name);
  }

  void by_held_values() {
    for (const Held& known : kHeldValues) {
      if (const Addr value = held(known.module, known.key); value != 0) name(type_of(value), known.tp_name);
    }
    if (const HeldModule* sys = module_named("sys")) name(type_of(sys->address), "module");
    const Addr function = held("_frozen_importlib", "_find_and_load");
    if (function != 0 && named("function") == type_of(function)) {
      name(type_of(load(function, layout_.PyFunctionObject.func_code)), "code");
    }
  }

  // sys.flags and its like: a static type of its own for each.
  void by_sys() {
    for (const auto& [key, value] : items(sysdict_)) {
      const Addr type = type_of(value);
      if ((flags_of(type) & tp_flag::kTupleSubclass) == 0 || !is_static_type(type)) continue;
      if (const auto decoded = text(key)) name(type, "sys." + *decoded);
    }
  }

  void by_defining_modules() {
    for (const Holder& holder : holders_) {
      const HeldModule& module = modules_[holder.module];
      const Module* image = module_of(holder.type);
      if (image == nullptr || module.name == "_types") continue;
      const bool in_interpreter = image->range.contains(runtime_.type_type);
      if (in_interpreter ? !module.builtin : module.file.empty() || module.file != image->name()) continue;
      name(holder.type, public_module(module.name) + "." + holder.key);
    }
  }

  void by_attributes() {
    for (const Attribute& known : kAttributes) {
      const Addr type = named(known.type);
      const Addr dict = type == 0 ? 0 : type_dict(reader_, runtime_, type);
      const auto value = dict_get(reader_, runtime_.traits, dict, known.name);
      if (value) name(type_of(*value), known.tp_name);
    }
    // What ctypes' types have for a dict (to 3.12).
    const Addr dict = load(held("ctypes", "c_char"), layout_.PyTypeObject.tp_dict);
    if (is_dict(dict) && type_of(dict) != named("dict")) name(type_of(dict), "StgDict");
    // The caches of abstract classes, where their type is static (to 3.8).
    const Addr abstract = load(held("_collections_abc", "Hashable"), layout_.PyTypeObject.tp_dict);
    if (const auto value = dict_get(reader_, runtime_.traits, abstract, "_abc_impl")) {
      name(type_of(*value), "_abc_data");
    }
  }

  // Marks tell the interpreter's own types apart, which are variables beside `type`; other libraries' may have taken
  // over the attributes' names.
  void by_marks() {
    for (const Addr type : types_beside_type()) {
      if (names_.contains(type)) continue;
      std::set<std::string> attributes;
      for (const auto& [key, value] : items(type_dict(reader_, runtime_, type))) {
        if (auto decoded = text(key)) attributes.insert(std::move(*decoded));
      }
      for (const Mark& mark : kMarks) {
        if (!attributes.contains(mark.first)) continue;
        if (mark.second == nullptr || attributes.contains(mark.second)) name(type, mark.tp_name);
      }
    }
    for (const Derived& derived : kDerived) {
      const Addr base = named(derived.base);
      for (const Addr type : types_beside_type()) {
        if (base != 0 && load(type, layout_.PyTypeObject.tp_base) == base) name(type, derived.tp_name);
      }
    }
  }

  std::vector<Addr> types_beside_type() {
    std::vector<Addr> types;
    const Mapping* mapping = snapshot_.mapping_at(runtime_.type_type);
    if (mapping == nullptr) return types;
    const std::uint64_t ob_type = layout_.PyObject.ob_type.offset;
    const Addr end = mapping->start + std::min(mapping->size_bytes(), kMaxSearchedBytes);
    for (Addr at = align_up(mapping->start + ob_type, 8); at + 8 <= end; at += 8) {
      Addr word = 0;
      if (!reader_.try_load(at, word)) {
        at = align_up(std::min(reader_.space().next_present(at), end), 8) - 8;
      } else if (word == runtime_.type_type && is_static_type(at - ob_type)) {
        types.push_back(at - ob_type);
      }
    }
    return types;
  }

  void by_any_holder() {
    for (const Holder& holder : holders_) {
      name(holder.type, public_module(modules_[holder.module].name) + "." + holder.key);
    }
  }

  const Snapshot& snapshot_;
  const PyRuntime& runtime_;
  const PyLayout& layout_;
  Reader reader_;
  Addr sysdict_ = 0;
  std::size_t items_seen_ = 0;
  std::vector<HeldModule> modules_;
  std::vector<Holder> holders_;
  std::unordered_map<Addr, std::string> names_;
};

}  // namespace

StaticTypeNames::StaticTypeNames(const Snapshot& snapshot, const PyRuntime& runtime)
    : names_(NameSearch(snapshot, runtime).run()) {}

std::optional<std::string> StaticTypeNames::find(Addr type) const {
  const auto found = names_.find(type);
  return found == names_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace heapcore

// What an object is, for display: one line as its repr() would be, and the parts it is made of by name.
//
// The line is that of the builtin type an object is of or descends from (a __repr__ written in Python is not run), with
// the addresses that repr() prints. Contents of strings and bytes are withheld unless asked for; names (of attributes,
// types, functions, files) never are. Recursion, items and length are bounded; what cannot be is a finding with its
// address, and the rest is shown.
//
// Sources: the definitions of the types in CPython 2.7 to 3.15 and numpy 1.x and 2.x, by the layout tables; what a
// table does not tell is cited where it is used.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coreparse/snapshot.h"
#include "pyobj/containers.h"
#include "pyobj/objects.h"
#include "pyobj/runtime.h"
#include "pyobj/types.h"
#include "support/finding.h"

namespace heapcore {

struct ValueOptions {
  bool contents = false;   // of strings and bytes
  std::size_t limit = 20;  // items shown of one container; 0 for all
  // How many bytes there are from an object's address to the end of its block; more where that is not known. What an
  // object says that it has beyond it is damage.
  std::function<std::uint64_t(Addr)> room = nullptr;
};

struct ValuePart {
  std::string name;  // of a field, an attribute or a local; of an item of a mapping its key's text
  std::string text;
  Addr address = 0;  // of the object that is meant; 0 if none is
  Addr key = 0;      // of a mapping's key
};

struct Value {
  std::string text;
  std::vector<ValuePart> fields;        // by what kind of object it is: "file", "line", "args"
  std::vector<ValuePart> attributes;    // from its dict, its type's slots, its inline values
  std::vector<ValuePart> locals;        // of a frame, a generator or a coroutine
  std::vector<ValuePart> items;         // of a container, in its own order
  std::vector<ValuePart> pointers;      // of an object of an unknown type: words in it that are objects' addresses
  std::optional<std::uint64_t> length;  // of a container; it may have more than `items` shows
  bool is_mapping = false;
};

// Where a frame is: "handler", "/srv/worker.py", 41.
struct FramePlace {
  std::string function;
  std::string file;
  int line = 0;

  std::string text() const;  // "handler (/srv/worker.py:41)"
};

class ValueReader {
 public:
  ValueReader(const Snapshot& snapshot, const PyRuntime& runtime, TypeTable& types, const ValueOptions& options,
              Findings& findings);

  // REQUIRES: an object is at `address`.
  Value describe(Addr address);
  std::string text(Addr address);

  // Of a frame as frames_of_thread() (frames.h) lists it.
  std::optional<FramePlace> place_of_frame(Addr frame);
  // Of a frame object; of the frame that a generator, a coroutine or an asynchronous generator has until it ends.
  std::optional<FramePlace> place_inside(Addr object);

 private:
  struct Object {
    Addr address = 0;
    ObjectView view;
    const TypeInfo* type = nullptr;  // null: there is none
    Kind kind = Kind::kUnknown;

    explicit operator bool() const { return type != nullptr; }
  };

  // values.cc: finding objects, recursion, which kind is shown how.
  Object find(Addr address);
  void append(std::string& out, Addr address);
  void append_kind(std::string& out, const Object& object);
  void append_missing(std::string& out, Addr address);
  bool full(const std::string& out) const { return out.size() >= most_text_bytes_; }
  std::uint64_t word(Addr base, const Field& field);
  std::int64_t number(Addr base, const Field& field);
  void damaged(Addr address, std::string_view what);
  // Do `count` units at `data` inside the object lie in its block?
  bool has_room(Addr object, Addr data, std::uint64_t count, unsigned unit_bytes) const;
  std::string type_name(const TypeInfo& type) const;
  static std::string short_name(const TypeInfo& type);
  std::string name_at(Addr address);
  std::string c_name_at(Addr address);
  void add_field(Value& value, std::string_view name, std::string text, Addr address = 0);
  void add_object(Value& value, std::string_view name, Addr address);

  // values_simple.cc: numbers and text.
  void append_int(std::string& out, const Object& object);
  void append_str(std::string& out, const Object& object);
  void append_unicode(std::string& out, const Object& object);
  void append_characters(std::string& out, std::span<const std::byte> bytes, unsigned unit_bytes, bool ascii_only);
  void append_bytes(std::string& out, const Object& object, const char* prefix);
  void append_withheld(std::string& out, const char* what, std::uint64_t length, const char* unit) const;
  void append_range(std::string& out, const Object& object);
  void append_datetime(std::string& out, const Object& object);

  // values_containers.cc
  Items items_of(const Object& object);
  void append_items(std::string& out, const Object& object, const char* open, const char* close);
  void append_key(std::string& out, Addr key, bool is_name);
  void append_set(std::string& out, const Object& object);
  void append_deque(std::string& out, const Object& object);
  void append_dict(std::string& out, const Object& object);
  enum class Entries : std::uint8_t { kKeys, kValues, kPairs, kMapping };
  void append_entries(std::string& out, const Object& dict, const Items& found, Entries shown);
  void append_array(std::string& out, const Object& object);
  void append_dict_view(std::string& out, const Object& object);
  Addr viewed_dict(Addr view);
  void append_ndarray(std::string& out, const Object& object);
  bool keys_are_names(const Object& dict);
  void describe_items(Value& value, const Object& object);
  void describe_memoryview(Value& value, const Object& object);
  void describe_ndarray(Value& value, const Object& object);

  // values_instances.cc: attributes, types, what lies in objects of unknown types.
  void describe_attributes(Value& value, const Object& object);
  void add_attributes(Value& value, const Items& items);
  void add_slots(Value& value, const Object& object);
  void describe_type(Value& value, Addr type);
  void describe_unknown(Value& value, const Object& object);
  Addr managed_dict(const Object& object, Addr& values);
  Addr computed_dict(const Object& object);
  std::vector<std::pair<std::string, std::uint64_t>> slots_of(Addr type);

  // values_code.cc: functions, code, frames, generators, tracebacks.
  struct Frame {
    Addr code = 0;
    int line = 0;
    std::int64_t lasti = 0;  // below 0: before the first instruction
    Addr first = 0;          // of the slots of locals, cells and free variables
  };
  struct Slot {
    Addr name = 0;
    std::uint8_t kind = 0;  // as co_localspluskinds has it
  };
  void append_callable(std::string& out, const Object& object);
  void append_builtin(std::string& out, const Object& object);
  void append_descriptor(std::string& out, const Object& object);
  void append_code(std::string& out, Addr code);
  std::optional<Frame> frame_at(const Object& frame);
  std::optional<Frame> old_frame(Addr frame);
  std::optional<Frame> interpreter_frame(Addr frame);
  Addr bytecode_of(Addr code, Addr frame);
  int line_of(Addr code, std::int64_t offset);
  std::string names_in(Addr tuple);
  std::string code_file(Addr code);
  std::string code_name(Addr code);
  FramePlace place_of(const Frame& frame);
  void add_frame(Value& value, const Frame& frame);
  void add_locals(Value& value, const Frame& frame);
  std::vector<Slot> slots_of_code(Addr code);
  std::string closure_names(Addr code);
  void describe_function(Value& value, const Object& object);
  void describe_code(Value& value, Addr code);
  void describe_generator(Value& value, const Object& object);
  std::string_view generator_state(const Object& object, std::optional<Frame>& frame);
  std::string traceback_text(Addr traceback);

  // values_others.cc: exceptions, tasks, modules and the rest.
  void append_other(std::string& out, const Object& object);
  void append_weakref(std::string& out, const Object& object);
  void append_partial(std::string& out, const Object& object);
  void append_exception(std::string& out, const Object& object);
  void describe_other(Value& value, const Object& object);
  void describe_exception(Value& value, const Object& object);
  template <typename Fields>
  void describe_future(Value& value, const Object& object, const Fields& fields);
  void describe_lru_cache(Value& value, const Object& object);
  std::string module_text(const Object& object, const char* key);
  Addr proxied(Addr proxy);

  const PyRuntime& runtime_;
  const PyTraits& traits_;
  const PyLayout& layout_;
  TypeTable& types_;
  ValueOptions options_;
  Findings& findings_;
  ObjectReader objects_;
  Reader reader_;
  ContainerReader containers_;
  std::size_t most_text_bytes_;
  std::uint64_t most_characters_;
  std::vector<Addr> active_;  // objects whose text is being made, the outermost first
};

}  // namespace heapcore

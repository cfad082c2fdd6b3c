// What static types are called where the snapshot has not the text: tp_name lies in constants (.rodata), which cores
// leave out, and the file may be on another machine.
//
// What the core still says proves a name, in this order:
//   1. the symbol that an interpreter exports for the type;
//   2. the name under which a module of CPython's own holds the type, or a value of it, as upstream has it: `int` in
//      builtins, `FunctionType` in types, the type of `None`;
//   3. the name under which the module that defines it holds it: the one whose file the type lies in;
//   4. for the interpreter's own types, an attribute that no other of them has: gi_code is a generator's;
//   5. any module that holds it. That is a name by which the program knows the type, if not always its own.
// Nothing is concluded from sizes and flags alone. What nothing proves has no name here.
//
// Does not: read tp_name, nor know heap types, which keep their names in memory.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>

#include "coreparse/snapshot.h"
#include "pyobj/runtime.h"

namespace heapcore {

class StaticTypeNames {
 public:
  // Looks through sys.modules: a second at most, where there are a million names.
  StaticTypeNames(const Snapshot& snapshot, const PyRuntime& runtime);

  // As tp_name would have it ("collections.deque", "int").
  std::optional<std::string> find(Addr type) const;

 private:
  std::unordered_map<Addr, std::string> names_;
};

}  // namespace heapcore

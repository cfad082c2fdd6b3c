// The C++ class of an object, by the vtable that its first word leads to. Source: the Itanium C++ ABI, 2.5.2 (vtable
// layout) and 2.9.5 (type_info), as g++ and clang follow it on x86-64:
//
//     vtable        | offset to top | type_info | first virtual function | ...
//                                               ^ what an object's first word leads to; the offset is 0 there
//     type_info     | vtable of __class_type_info or a class derived from it | name | ...
//     name          "N4shop5OrderE", or "*N..." where the class is local to its file
//
// All of it lies in a module's file as it is mapped, the name where nothing writes; and the class of the type_info is
// itself found so, in namespace __cxxabiv1. That needs no symbols. A class compiled without type_info is found by
// the symbol of its vtable (_ZTV...), if there is one.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "analysis/module_places.h"
#include "coreparse/snapshot.h"

namespace heapcore {

struct CppClass {
  std::string name;    // demangled; as it is where that would be too long
  std::string module;  // the file name of the module that holds the vtable
};

// "shop::Order" of "N4shop5OrderE"; nothing of what is no name. Names whose demangled form could be of any length stay.
std::optional<std::string> demangled_type(const std::string& mangled);

// Thread-safe.
class CppClasses {
 public:
  using Id = std::uint32_t;
  static constexpr Id kNone = ~Id{0};

  CppClasses(const Snapshot& snapshot, const ModulePlaces& places);

  // Of an object whose first word is `vptr`; kNone if that leads to no vtable.
  Id class_of(Addr vptr);
  // REQUIRES: no thread is inside class_of().
  const CppClass& info(Id id) const { return classes_[id]; }
  std::size_t size() const { return classes_.size(); }

 private:
  static constexpr std::size_t kMaxSymbolSearches = 256;  // each goes through all of a module's symbols

  Id find(Addr vptr);
  std::optional<std::string> type_name(Reader& reader, Addr type_info) const;
  std::optional<std::string> name_of(Reader& reader, Addr type_info) const;
  std::optional<std::string> vtable_symbol(Reader& reader, const ModulePlace& place, Addr vptr);

  const Snapshot& snapshot_;
  const ModulePlaces& places_;
  std::mutex mutex_;
  std::unordered_map<Addr, Id> ids_;  // by vptr; what is no vtable too
  std::vector<CppClass> classes_;
  std::size_t symbol_searches_ = 0;
};

}  // namespace heapcore

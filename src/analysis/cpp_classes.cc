#include "analysis/cpp_classes.h"

#include <cxxabi.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <memory>

namespace heapcore {
namespace {

constexpr std::uint64_t kWord = 8;
constexpr std::size_t kMaxNameBytes = 1024;
constexpr std::string_view kVtable = "_ZTV";

bool may_be_mangled(std::string_view name) {
  const auto is_part = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.'; };
  // A class's name: <source-name>, N nested E, St..., Z local.
  return !name.empty() &&
         (std::isdigit(static_cast<unsigned char>(name[0])) != 0 || name[0] == 'N' || name[0] == 'S' ||
          name[0] == 'Z') &&
         std::all_of(name.begin(), name.end(), is_part);
}

// How many parts refer to earlier ones, each of which may double what there is.
std::size_t references_in(std::string_view mangled) {
  std::size_t count = 0;
  for (std::size_t i = 0; i + 1 < mangled.size(); ++i) {
    const auto next = static_cast<unsigned char>(mangled[i + 1]);
    const bool refers = next == '_' || std::isdigit(next) != 0 || std::isupper(next) != 0;
    if ((mangled[i] == 'S' || mangled[i] == 'T') && refers) ++count;
  }
  return count;
}

}  // namespace

std::optional<std::string> demangled_type(const std::string& mangled) {
  constexpr std::size_t kMaxReferences = 24;
  if (references_in(mangled) > kMaxReferences) return mangled;
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status), &std::free);
  if (status != 0 || text == nullptr) return std::nullopt;
  return std::string(text.get());
}

CppClasses::CppClasses(const Snapshot& snapshot, const ModulePlaces& places) : snapshot_(snapshot), places_(places) {}

CppClasses::Id CppClasses::class_of(Addr vptr) {
  const std::lock_guard lock(mutex_);
  const auto [entry, inserted] = ids_.try_emplace(vptr, kNone);
  if (inserted) entry->second = find(vptr);
  return entry->second;
}

CppClasses::Id CppClasses::find(Addr vptr) {
  if (!is_aligned(vptr, kWord)) return kNone;
  const ModulePlace* place = places_.at(vptr);
  if (place == nullptr || !place->is_file || vptr - place->range.start < 2 * kWord) return kNone;
  Reader reader(snapshot_.space);
  Addr offset_to_top = 0;
  Addr type_info = 0;
  if (!reader.try_load(vptr - 2 * kWord, offset_to_top) || !reader.try_load(vptr - kWord, type_info)) return kNone;
  if (offset_to_top != 0) return kNone;
  const std::optional<std::string> name =
      type_info != 0 ? type_name(reader, type_info) : vtable_symbol(reader, *place, vptr);
  std::optional<std::string> demangled = name ? demangled_type(*name) : std::nullopt;
  if (!demangled) return kNone;
  classes_.push_back({std::move(*demangled), std::string(place->module->name())});
  return static_cast<Id>(classes_.size() - 1);
}

// The mangled name of a class, if this is its type_info.
std::optional<std::string> CppClasses::type_name(Reader& reader, Addr type_info) const {
  std::optional<std::string> name = name_of(reader, type_info);
  Addr own_vptr = 0;
  Addr own_type_info = 0;
  if (!name || !reader.try_load(type_info, own_vptr)) return std::nullopt;
  const ModulePlace* place = places_.at(own_vptr);
  if (place == nullptr || !place->is_file || !is_aligned(own_vptr, kWord)) return std::nullopt;
  if (own_vptr - place->range.start < 2 * kWord) return std::nullopt;
  // Where the C++ library's data is neither in the snapshot nor here, this much has to do.
  if (!reader.try_load(own_vptr - kWord, own_type_info)) return name;
  const std::optional<std::string> own_name = name_of(reader, own_type_info);
  return own_name && own_name->starts_with("N10__cxxabiv1") ? name : std::nullopt;
}

std::optional<std::string> CppClasses::name_of(Reader& reader, Addr type_info) const {
  const ModulePlace* place = places_.at(type_info);
  Addr text = 0;
  if (place == nullptr || !place->is_file || !is_aligned(type_info, kWord)) return std::nullopt;
  if (!reader.try_load(type_info + kWord, text)) return std::nullopt;
  const ModulePlace* text_place = places_.at(text);
  if (text_place == nullptr || !text_place->is_file || text_place->writable) return std::nullopt;
  std::optional<std::string> name = reader.c_string(text, kMaxNameBytes);
  if (name && name->starts_with('*')) name->erase(0, 1);
  if (!name || !may_be_mangled(*name)) return std::nullopt;
  return name;
}

std::optional<std::string> CppClasses::vtable_symbol(Reader& reader, const ModulePlace& place, Addr vptr) {
  Addr function = 0;
  if (!reader.try_load(vptr, function)) return std::nullopt;
  const ModulePlace* code = places_.at(function);
  if (code == nullptr || !code->is_code(function) || symbol_searches_ == kMaxSymbolSearches) return std::nullopt;
  ++symbol_searches_;
  const std::string symbol = place.module->symbol_at(vptr);  // "_ZTVN4shop5OrderE+0x10"
  const std::size_t plus = symbol.find("+0x");
  if (!symbol.starts_with(kVtable) || plus == std::string::npos) return std::nullopt;
  std::string name = symbol.substr(kVtable.size(), plus - kVtable.size());
  if (!may_be_mangled(name)) return std::nullopt;
  return name;
}

}  // namespace heapcore

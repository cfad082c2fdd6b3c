#include "coreparse/dwarf_layout.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwelf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gelf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <limits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "support/addr.h"

namespace heapcore {
namespace {

// Bounds no honest file comes near: a large C++ program has some 30 million top-level entries.
constexpr std::uint64_t kMaxIndexVisits = 200'000'000;
constexpr std::uint64_t kMaxMemberVisits = 1'000'000;
constexpr int kMaxTypeDepth = 32;
constexpr int kMaxAnonymousDepth = 8;
constexpr std::uint64_t kPointerBytes = 8;  // x86-64, the only machine accepted

// ---- Attributes. libdw's integrating helpers are avoided: they follow typedef cycles for ever, and look for dwz's
// file
// ---- themselves, by a name that stands in the file.

struct Source {
  bool has_alt = false;  // references into dwz's file can be followed
};

bool in_alt_file(unsigned int form) {
  return form == DW_FORM_GNU_ref_alt || form == DW_FORM_GNU_strp_alt || form == DW_FORM_ref_sup4 ||
         form == DW_FORM_ref_sup8 || form == DW_FORM_strp_sup;
}

bool get_attr(const Source& source, Dwarf_Die* die, unsigned int name, Dwarf_Attribute* attr) {
  return dwarf_attr(die, name, attr) != nullptr && (source.has_alt || !in_alt_file(dwarf_whatform(attr)));
}

std::string_view name_of(const Source& source, Dwarf_Die* die) {
  Dwarf_Attribute attr;
  if (!get_attr(source, die, DW_AT_name, &attr)) return {};
  const char* text = dwarf_formstring(&attr);
  return text == nullptr ? std::string_view() : std::string_view(text);
}

std::optional<std::uint64_t> unsigned_attr(const Source& source, Dwarf_Die* die, unsigned int name) {
  Dwarf_Attribute attr;
  Dwarf_Word value = 0;
  if (!get_attr(source, die, name, &attr) || dwarf_formudata(&attr, &value) != 0) return std::nullopt;
  return value;
}

bool is_declaration(const Source& source, Dwarf_Die* die) {
  Dwarf_Attribute attr;
  bool flag = false;
  return get_attr(source, die, DW_AT_declaration, &attr) && dwarf_formflag(&attr, &flag) == 0 && flag;
}

bool type_of(const Source& source, Dwarf_Die* die, Dwarf_Die* type) {
  Dwarf_Attribute attr;
  return get_attr(source, die, DW_AT_type, &attr) && dwarf_formref_die(&attr, type) != nullptr;
}

bool is_aggregate(int tag) {
  return tag == DW_TAG_structure_type || tag == DW_TAG_union_type || tag == DW_TAG_class_type;
}

// One step from a typedef, a qualifier, or a structure kept in a type unit of its own, to what it stands for.
enum class Step { kTaken, kAtEnd, kBroken };

Step step(const Source& source, Dwarf_Die* die) {
  Dwarf_Die next;
  switch (dwarf_tag(die)) {
    case DW_TAG_typedef:
    case DW_TAG_const_type:
    case DW_TAG_volatile_type:
    case DW_TAG_atomic_type:
    case DW_TAG_restrict_type:
      if (!type_of(source, die, &next)) return Step::kBroken;
      break;
    case DW_TAG_structure_type:
    case DW_TAG_union_type:
    case DW_TAG_class_type: {
      Dwarf_Attribute attr;
      if (!get_attr(source, die, DW_AT_signature, &attr)) return Step::kAtEnd;
      if (dwarf_formref_die(&attr, &next) == nullptr) return Step::kBroken;
      break;
    }
    default:
      return Step::kAtEnd;
  }
  *die = next;
  return Step::kTaken;
}

bool peel(const Source& source, Dwarf_Die die, Dwarf_Die* peeled) {
  for (int depth = 0; depth < kMaxTypeDepth; ++depth) {
    const Step taken = step(source, &die);
    if (taken == Step::kBroken) return false;
    if (taken == Step::kTaken) continue;
    *peeled = die;
    return true;
  }
  return false;
}

// ---- Sizes.

// An array's number of elements; a flexible one (no bound, or zero) counts as one.
std::optional<std::uint64_t> element_count(const Source& source, Dwarf_Die* array) {
  std::uint64_t count = 1;
  Dwarf_Die child;
  if (dwarf_child(array, &child) != 0) return count;
  int dimensions = 0;
  do {
    if (dwarf_tag(&child) != DW_TAG_subrange_type) continue;
    if (++dimensions > kMaxTypeDepth) return std::nullopt;
    std::uint64_t length = 1;
    if (const auto given = unsigned_attr(source, &child, DW_AT_count)) {
      length = *given;
    } else if (const auto last = unsigned_attr(source, &child, DW_AT_upper_bound)) {
      length = *last + 1;  // an upper bound of -1 says "no elements": wraps to 0
    }
    if (length == 0) length = 1;
    const auto product = checked_mul(count, length);
    if (!product) return std::nullopt;
    count = *product;
  } while (dwarf_siblingof(&child, &child) == 0);
  return count;
}

std::optional<std::uint64_t> size_of(const Source& source, Dwarf_Die type, int depth = 0) {
  Dwarf_Die peeled;
  if (depth > kMaxTypeDepth || !peel(source, type, &peeled)) return std::nullopt;
  if (const auto size = unsigned_attr(source, &peeled, DW_AT_byte_size)) return size;
  switch (dwarf_tag(&peeled)) {
    case DW_TAG_pointer_type:  // clang leaves the size out
      return kPointerBytes;
    case DW_TAG_array_type: {
      Dwarf_Die element;
      if (!type_of(source, &peeled, &element)) return std::nullopt;
      const auto element_bytes = size_of(source, element, depth + 1);
      const auto count = element_count(source, &peeled);
      if (!element_bytes || !count) return std::nullopt;
      return checked_mul(*element_bytes, *count);
    }
    default:
      return std::nullopt;
  }
}

std::optional<std::uint32_t> narrow(std::uint64_t value) {
  if (value > std::numeric_limits<std::uint32_t>::max()) return std::nullopt;
  return static_cast<std::uint32_t>(value);
}

// ---- Members.

// DW_AT_data_member_location: a constant, or in DWARF 2 an expression that adds one. A union's members have none.
std::optional<std::uint64_t> location_of(const Source& source, Dwarf_Die* member) {
  Dwarf_Attribute attr;
  if (!get_attr(source, member, DW_AT_data_member_location, &attr)) return 0;
  Dwarf_Word value = 0;
  if (dwarf_formudata(&attr, &value) == 0) return value;
  Dwarf_Op* ops = nullptr;
  std::size_t count = 0;
  if (dwarf_getlocation(&attr, &ops, &count) != 0 || count != 1 || ops[0].atom != DW_OP_plus_uconst)
    return std::nullopt;
  return ops[0].number;
}

struct Place {
  std::uint64_t offset = 0;
  std::uint64_t width_bytes = 0;
};

std::optional<Place> place_of(const Source& source, Dwarf_Die* member) {
  Dwarf_Die type;
  if (!type_of(source, member, &type)) return std::nullopt;
  const auto width = size_of(source, type);
  if (!width || *width == 0) return std::nullopt;
  // DWARF 4 and later count a bit-field's bits from the start of the structure; before, the member's location is
  // already that of its storage unit.
  if (const auto first_bit = unsigned_attr(source, member, DW_AT_data_bit_offset)) {
    return Place{*first_bit / 8 / *width * *width, *width};
  }
  const auto offset = location_of(source, member);
  if (!offset) return std::nullopt;
  return Place{*offset, *width};
}

struct Member {
  Dwarf_Die die;
  Place place;  // from the start of the structure that was searched
};

// Finds members by name within one structure, and within the anonymous ones in it.
class MemberSearch {
 public:
  explicit MemberSearch(const Source& source) : source_(source) {}

  std::optional<Member> find(Dwarf_Die aggregate, std::string_view name, int depth = 0) {
    Dwarf_Die child;
    if (depth > kMaxAnonymousDepth || dwarf_child(&aggregate, &child) != 0) return std::nullopt;
    do {
      if (++visits_ > kMaxMemberVisits) return std::nullopt;
      if (dwarf_tag(&child) != DW_TAG_member) continue;
      const std::string_view child_name = name_of(source_, &child);
      if (child_name.empty()) {
        if (const auto member = find_in_anonymous(&child, name, depth)) return member;
      } else if (child_name == name) {
        const auto place = place_of(source_, &child);
        return place ? std::optional(Member{child, *place}) : std::nullopt;
      }
    } while (dwarf_siblingof(&child, &child) == 0);
    return std::nullopt;
  }

 private:
  std::optional<Member> find_in_anonymous(Dwarf_Die* outer, std::string_view name, int depth) {
    Dwarf_Die type;
    Dwarf_Die inner;
    if (!type_of(source_, outer, &type) || !peel(source_, type, &inner) || !is_aggregate(dwarf_tag(&inner))) return {};
    const auto start = location_of(source_, outer);
    auto member = find(inner, name, depth + 1);
    if (!start || !member) return std::nullopt;
    const auto offset = checked_add(*start, member->place.offset);
    if (!offset) return std::nullopt;
    member->place.offset = *offset;
    return member;
  }

  const Source& source_;
  std::uint64_t visits_ = 0;
};

Field field_at(const Source& source, Dwarf_Die aggregate, std::string_view path) {
  MemberSearch search(source);
  std::uint64_t base = 0;
  while (true) {
    const std::size_t dot = path.find('.');
    const auto member = search.find(aggregate, path.substr(0, dot));
    const auto offset = member ? checked_add(base, member->place.offset) : std::nullopt;
    if (!offset) return {};
    if (dot == std::string_view::npos) {
      const auto narrow_offset = narrow(*offset);
      const auto width = narrow(member->place.width_bytes);
      return narrow_offset && width ? Field{*narrow_offset, *width} : Field{};
    }
    Dwarf_Die die = member->die;
    Dwarf_Die type;
    if (!type_of(source, &die, &type) || !peel(source, type, &aggregate)) return {};
    base = *offset;
    path.remove_prefix(dot + 1);
  }
}

// ---- Files.

Error open_error(const std::string& path, int number) {
  const ErrorCode code = number == ENOENT   ? ErrorCode::kNotFound
                         : number == EACCES ? ErrorCode::kNotPermitted
                                            : ErrorCode::kIo;
  return {code, fmt::format("Cannot open {}: {}", path, errno_text(number)), ""};
}

// An ELF file, and libdw's view of it. Kept open while the index points into it.
class DwarfFile {
 public:
  DwarfFile() = default;
  DwarfFile(const DwarfFile&) = delete;
  DwarfFile& operator=(const DwarfFile&) = delete;
  ~DwarfFile() {
    if (dwarf != nullptr) dwarf_end(dwarf);
    if (elf != nullptr) elf_end(elf);
    if (fd >= 0) ::close(fd);
  }

  Status open(const std::string& path) {
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a FIFO in its place must not stop us
    if (fd < 0) return open_error(path, errno);
    struct stat info = {};
    if (::fstat(fd, &info) != 0) return open_error(path, errno);
    if (!S_ISREG(info.st_mode)) return Error{ErrorCode::kNotFound, fmt::format("{} is not a regular file", path), ""};
    elf_version(EV_CURRENT);
    elf = elf_begin(fd, ELF_C_READ_MMAP_PRIVATE, nullptr);
    GElf_Ehdr header;
    if (elf == nullptr || elf_kind(elf) != ELF_K_ELF || gelf_getehdr(elf, &header) == nullptr) {
      return Error{ErrorCode::kUnsupported, fmt::format("{} is not an ELF file", path), ""};
    }
    if (header.e_machine != EM_X86_64 || gelf_getclass(elf) != ELFCLASS64) {
      return Error{ErrorCode::kWrongArchitecture, fmt::format("{} is not of x86-64", path), ""};
    }
    const void* id = nullptr;
    const ssize_t id_bytes = dwelf_elf_gnu_build_id(elf, &id);
    if (id_bytes > 0) build_id = hex({static_cast<const unsigned char*>(id), static_cast<std::size_t>(id_bytes)});
    hide_unneeded_sections();
    dwarf = dwarf_begin_elf(elf, DWARF_C_READ, nullptr);
    if (dwarf == nullptr) {
      return Error{ErrorCode::kNotFound, fmt::format("{} has no usable DWARF: {}", path, dwarf_errmsg(-1)),
                   "Install the package's debug symbols, or give the separate debug file."};
    }
    return std::monostate{};
  }

  // libdw decompresses every section that DWARF can have, and that is most of the time that opening takes. In this
  // private view those that say nothing of types become empty.
  void hide_unneeded_sections() {
    constexpr std::string_view kUnneeded[] = {".debug_line",     ".debug_loc",      ".debug_loclists", ".debug_ranges",
                                              ".debug_rnglists", ".debug_aranges",  ".debug_macro",    ".debug_macinfo",
                                              ".debug_frame",    ".debug_pubnames", ".debug_pubtypes", ".debug_names"};
    std::size_t names = 0;
    if (elf_getshdrstrndx(elf, &names) != 0) return;
    Elf_Scn* section = nullptr;
    while ((section = elf_nextscn(elf, section)) != nullptr) {
      GElf_Shdr header;
      if (gelf_getshdr(section, &header) == nullptr) continue;
      const char* name = elf_strptr(elf, names, header.sh_name);
      if (name == nullptr || std::find(std::begin(kUnneeded), std::end(kUnneeded), name) == std::end(kUnneeded))
        continue;
      header.sh_type = SHT_NOBITS;
      gelf_update_shdr(section, &header);
    }
  }

  static std::string hex(std::span<const unsigned char> bytes) {
    constexpr std::size_t kMaxBuildIdBytes = 64;
    std::string text;
    for (const unsigned char byte : bytes.first(std::min(bytes.size(), kMaxBuildIdBytes))) {
      text += fmt::format("{:02x}", byte);
    }
    return text;
  }

  int fd = -1;
  Elf* elf = nullptr;
  Dwarf* dwarf = nullptr;
  std::string build_id;
};

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};

// What is known of one wanted name.
struct Slot {
  std::optional<Dwarf_Die> definition;
  std::string declared_tag;  // of a typedef seen so far only with a declared structure
};
using Slots = std::unordered_map<std::string, Slot, StringHash, std::equal_to<>>;

}  // namespace

struct DwarfLayout::Impl {
  DwarfFile file;
  DwarfFile alt;
  Source source;
  Slots typedefs;
  Slots tags;
  std::uint64_t visits = 0;

  ~Impl() {
    if (file.dwarf != nullptr && source.has_alt) dwarf_setalt(file.dwarf, nullptr);
  }

  void open_alt(const std::string& path, const std::string& debug_root);
  void index(Dwarf* dwarf, std::string_view unit);
  bool found_any() const;
  void index_unit(Dwarf_Die unit_die);
  bool want_declared_tags();
  const Dwarf_Die* find(std::string_view type) const;
};

// The file that dwz split off common entries into.
void DwarfLayout::Impl::open_alt(const std::string& path, const std::string& debug_root) {
  const char* name = nullptr;
  const void* id = nullptr;
  const ssize_t id_bytes = dwelf_dwarf_gnu_debugaltlink(file.dwarf, &name, &id);
  if (id_bytes <= 2 || name == nullptr) return;
  const std::string wanted =
      DwarfFile::hex({static_cast<const unsigned char*>(id), static_cast<std::size_t>(id_bytes)});
  const std::string folder = path.substr(0, path.rfind('/') + 1);
  const std::string candidates[] = {
      fmt::format("{}/.build-id/{}/{}.debug", debug_root, wanted.substr(0, 2), wanted.substr(2)),
      name[0] == '/' ? std::string(name) : folder + name,
  };
  for (const std::string& candidate : candidates) {
    DwarfFile probe;
    if (!probe.open(candidate).ok() || probe.build_id != wanted) continue;
    std::swap(alt.fd, probe.fd);
    std::swap(alt.elf, probe.elf);
    std::swap(alt.dwarf, probe.dwarf);
    alt.build_id = wanted;
    dwarf_setalt(file.dwarf, alt.dwarf);
    source.has_alt = true;
    return;
  }
}

bool DwarfLayout::Impl::found_any() const {
  const auto defined = [](const auto& entry) { return entry.second.definition.has_value(); };
  return std::any_of(typedefs.begin(), typedefs.end(), defined) || std::any_of(tags.begin(), tags.end(), defined);
}

void DwarfLayout::Impl::index(Dwarf* dwarf, std::string_view unit) {
  Dwarf_CU* cu = nullptr;
  Dwarf_CU* next = nullptr;
  Dwarf_Die unit_die;
  // No sub-DIE is asked for: libdw would open .dwo files to give it. Partial units, which dwz makes, are listed too, so
  // imports need not be followed.
  while (dwarf_get_units(dwarf, cu, &next, nullptr, nullptr, &unit_die, nullptr) == 0 && visits < kMaxIndexVisits) {
    if (next == cu) return;
    cu = next;
    const std::string_view name = unit.empty() ? std::string_view() : name_of(source, &unit_die);
    if (unit.empty() || name == unit || (name.ends_with(unit) && name[name.size() - unit.size() - 1] == '/')) {
      index_unit(unit_die);
    }
  }
}

void DwarfLayout::Impl::index_unit(Dwarf_Die unit_die) {
  Dwarf_Die die;
  if (dwarf_child(&unit_die, &die) != 0) return;
  do {
    if (++visits > kMaxIndexVisits) return;
    const int tag = dwarf_tag(&die);
    const bool is_typedef = tag == DW_TAG_typedef;
    if (!is_typedef && !is_aggregate(tag)) continue;
    Slots& slots = is_typedef ? typedefs : tags;
    const auto slot = slots.find(name_of(source, &die));
    if (slot == slots.end() || slot->second.definition) continue;
    Dwarf_Die peeled;
    if (!peel(source, die, &peeled) || !is_aggregate(dwarf_tag(&peeled))) continue;
    if (!is_declaration(source, &peeled)) {
      slot->second.definition = peeled;
    } else if (is_typedef) {
      slot->second.declared_tag = name_of(source, &peeled);
    }
  } while (dwarf_siblingof(&die, &die) == 0);
}

// Typedefs that were seen only with a declared structure: is it defined elsewhere? True if there is a tag to look for.
bool DwarfLayout::Impl::want_declared_tags() {
  bool added = false;
  for (const auto& [name, slot] : typedefs) {
    if (slot.definition || slot.declared_tag.empty()) continue;
    added |= tags.try_emplace(slot.declared_tag).second;
  }
  return added;
}

const Dwarf_Die* DwarfLayout::Impl::find(std::string_view type) const {
  for (const std::string& name : {std::string(type), "_" + std::string(type)}) {
    if (const auto slot = typedefs.find(name); slot != typedefs.end()) {
      if (slot->second.definition) return &*slot->second.definition;
      const auto tag = tags.find(slot->second.declared_tag);
      if (tag != tags.end() && tag->second.definition) return &*tag->second.definition;
    }
    if (const auto tag = tags.find(name); tag != tags.end() && tag->second.definition) return &*tag->second.definition;
  }
  return nullptr;
}

DwarfLayout::DwarfLayout(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DwarfLayout::DwarfLayout(DwarfLayout&&) noexcept = default;
DwarfLayout& DwarfLayout::operator=(DwarfLayout&&) noexcept = default;
DwarfLayout::~DwarfLayout() = default;

Result<DwarfLayout> DwarfLayout::open(const std::string& path, std::span<const std::string_view> types,
                                      const std::string& debug_root, std::string_view unit) {
  auto impl = std::make_unique<Impl>();
  if (Status opened = impl->file.open(path); !opened.ok()) return opened.error();
  impl->open_alt(path, debug_root);
  for (const std::string_view type : types) {
    for (const std::string& name : {std::string(type), "_" + std::string(type)}) {
      impl->typedefs.try_emplace(name);
      impl->tags.try_emplace(name);
    }
  }
  if (!unit.empty()) {
    impl->index(impl->file.dwarf, unit);
    if (impl->found_any()) return DwarfLayout(std::move(impl));
  }
  // A second time only if some typedef's structure is defined in another unit than every typedef of it.
  int passes = 0;
  do {
    impl->index(impl->file.dwarf, {});
    if (impl->source.has_alt) impl->index(impl->alt.dwarf, {});
  } while (++passes < 2 && impl->want_declared_tags());
  return DwarfLayout(std::move(impl));
}

std::optional<std::uint32_t> DwarfLayout::size_bytes(std::string_view type) const {
  const Dwarf_Die* definition = impl_->find(type);
  const auto size = definition == nullptr ? std::nullopt : size_of(impl_->source, *definition);
  return size ? narrow(*size) : std::nullopt;
}

Field DwarfLayout::field(std::string_view type, std::string_view path) const {
  const Dwarf_Die* definition = impl_->find(type);
  if (definition == nullptr) return {};
  while (true) {
    const std::size_t bar = path.find('|');
    const Field field = field_at(impl_->source, *definition, path.substr(0, bar));
    if (field.present() || bar == std::string_view::npos) return field;
    path.remove_prefix(bar + 1);
  }
}

const std::string& DwarfLayout::build_id() const {
  return impl_->file.build_id;
}

}  // namespace heapcore

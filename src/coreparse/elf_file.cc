#include "coreparse/elf_file.h"

#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gelf.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

namespace heapcore {
namespace {

template <typename T>
T load_at(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

// The part of [offset, offset+n) that the file has.
std::span<const std::byte> slice(std::span<const std::byte> bytes, std::uint64_t offset, std::uint64_t n) {
  if (offset >= bytes.size()) return {};
  return bytes.subspan(offset, std::min<std::uint64_t>(n, bytes.size() - offset));
}

}  // namespace

std::vector<std::byte> build_id_in_notes(std::span<const std::byte> notes) {
  std::size_t at = 0;
  while (notes.size() - at >= sizeof(Elf64_Nhdr)) {
    const auto header = load_at<Elf64_Nhdr>(notes, at);
    at += sizeof header;
    const std::uint64_t name_bytes = align_up(header.n_namesz, 4);
    const std::uint64_t description_bytes = align_up(header.n_descsz, 4);
    if (name_bytes + header.n_descsz > notes.size() - at) break;
    const bool is_gnu = header.n_namesz == 4 && std::memcmp(notes.data() + at, "GNU", 4) == 0;
    if (is_gnu && header.n_type == NT_GNU_BUILD_ID && header.n_descsz > 0 && header.n_descsz <= 64) {
      const auto id = notes.subspan(at + name_bytes, header.n_descsz);
      return {id.begin(), id.end()};
    }
    at += std::min<std::uint64_t>(name_bytes + description_bytes, notes.size() - at);
  }
  return {};
}

// libdwfl's view of the file, opened when the first symbol is asked for.
struct ElfFile::Symbols {
  Dwfl* dwfl = nullptr;
  std::unordered_map<std::string_view, AddrRange> by_name;  // the names are libdwfl's; of equal names the first
  char* debuginfo_path = nullptr;
  Dwfl_Callbacks callbacks{};

  Symbols() = default;
  Symbols(const Symbols&) = delete;
  Symbols& operator=(const Symbols&) = delete;
  ~Symbols() {
    if (dwfl != nullptr) dwfl_end(dwfl);
  }
};

ElfFile::~ElfFile() = default;

Result<std::shared_ptr<ElfFile>> ElfFile::open(const std::string& path, std::uint16_t machine,
                                               const std::string& debug_roots) {
  Result<Image> image = Image::map_file(path);
  if (!image) return image.error();
  std::shared_ptr<ElfFile> file(new ElfFile);
  file->path_ = path;
  file->debug_roots_ = debug_roots;
  file->image_ = std::move(*image);
  const Status status = file->read_headers(machine);
  if (!status) return status.error();
  return file;
}

Status ElfFile::read_headers(std::uint16_t machine) {
  const std::span<const std::byte> all = bytes();
  const Error not_elf{ErrorCode::kUnsupported, fmt::format("{} is not an ELF file of the target's machine", path_), ""};
  elf_version(EV_CURRENT);
  // libelf takes a non-const image but does not write to one opened for reading.
  auto* data = reinterpret_cast<char*>(const_cast<std::byte*>(all.data()));
  elf_ = {all.empty() ? nullptr : elf_memory(data, all.size()), [](Elf* elf) { return elf_end(elf); }};
  GElf_Ehdr header;
  std::size_t count = 0;
  if (elf_ == nullptr || elf_kind(elf_.get()) != ELF_K_ELF || gelf_getehdr(elf_.get(), &header) == nullptr ||
      header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_machine != machine ||
      elf_getphdrnum(elf_.get(), &count) != 0) {
    return not_elf;
  }
  for (std::size_t i = 0; i < count; ++i) {
    GElf_Phdr segment;
    if (gelf_getphdr(elf_.get(), static_cast<int>(i), &segment) == nullptr) break;
    const std::span<const std::byte> content = slice(all, segment.p_offset, segment.p_filesz);
    if (segment.p_type == PT_LOAD) {
      loads_.push_back({segment.p_vaddr, segment.p_offset, content.size(), segment.p_memsz,
                        (segment.p_flags & PF_R) != 0, (segment.p_flags & PF_W) != 0, (segment.p_flags & PF_X) != 0});
    } else if (segment.p_type == PT_NOTE && build_id_.empty()) {
      build_id_ = build_id_in_notes(content);
    } else if (segment.p_type == PT_DYNAMIC && dynamic_.empty()) {
      for (std::size_t at = 0; at + sizeof(Elf64_Dyn) <= content.size(); at += sizeof(Elf64_Dyn)) {
        const auto dynamic = load_at<Elf64_Dyn>(content, at);
        if (dynamic.d_tag == DT_NULL) break;
        dynamic_.push_back({static_cast<std::uint64_t>(dynamic.d_tag), dynamic.d_un.d_val});
      }
      dynamic_range_ = {segment.p_vaddr, segment.p_vaddr + dynamic_.size() * sizeof(Elf64_Dyn)};
    }
  }
  return std::monostate{};
}

std::span<const std::byte> ElfFile::at_vaddr(std::uint64_t vaddr, std::uint64_t n) const {
  for (const ElfLoad& load : loads_) {
    if (vaddr < load.vaddr || vaddr - load.vaddr > load.file_bytes) continue;
    const std::uint64_t within = vaddr - load.vaddr;
    if (n <= load.file_bytes - within) return bytes().subspan(load.offset + within, n);
  }
  return {};
}

std::optional<AddrRange> ElfFile::section(std::string_view name) const {
  std::size_t names = 0;
  if (elf_getshdrstrndx(elf_.get(), &names) != 0) return std::nullopt;
  Elf_Scn* scn = nullptr;
  while ((scn = elf_nextscn(elf_.get(), scn)) != nullptr) {
    GElf_Shdr header;
    if (gelf_getshdr(scn, &header) == nullptr) continue;
    const char* text = elf_strptr(elf_.get(), names, header.sh_name);
    const auto end = checked_add(header.sh_addr, header.sh_size);
    if (text != nullptr && name == text && end) return AddrRange{header.sh_addr, *end};
  }
  return std::nullopt;
}

void ElfFile::read_symbols() {
  symbols_ = std::make_unique<Symbols>();
  // Not dwfl_standard_find_debuginfo: that one may ask a debuginfod server, and heapcore never uses the network.
  symbols_->callbacks.find_debuginfo = dwfl_build_id_find_debuginfo;
  symbols_->callbacks.section_address = dwfl_offline_section_address;
  symbols_->debuginfo_path = debug_roots_.data();
  symbols_->callbacks.debuginfo_path = &symbols_->debuginfo_path;
  symbols_->dwfl = dwfl_begin(&symbols_->callbacks);
  const int fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (symbols_->dwfl == nullptr || fd < 0) return;
  // Base 0, with p_vaddr added: addresses come out as the file has them. libdwfl owns fd if it succeeds.
  Dwfl_Module* module = dwfl_report_elf(symbols_->dwfl, path_.c_str(), path_.c_str(), fd, 0, true);
  if (module == nullptr) ::close(fd);
  dwfl_report_end(symbols_->dwfl, nullptr, nullptr);
  const int count = module == nullptr ? 0 : dwfl_module_getsymtab(module);
  for (int i = 0; i < count; ++i) {
    GElf_Sym symbol;
    GElf_Addr address = 0;
    GElf_Word section = 0;
    const char* name = dwfl_module_getsym_info(module, i, &symbol, &address, &section, nullptr, nullptr);
    const int type = GELF_ST_TYPE(symbol.st_info);
    if (name == nullptr || section == SHN_UNDEF) continue;
    if (type != STT_OBJECT && type != STT_FUNC && type != STT_NOTYPE) continue;
    // A .symtab has "fopen@@GLIBC_2.2.5" for the version of fopen that programs are linked with.
    const std::string_view whole = name;
    symbols_->by_name.emplace(whole.substr(0, whole.find("@@")), AddrRange{address, address + symbol.st_size});
  }
}

std::optional<AddrRange> ElfFile::symbol(std::string_view name) {
  if (symbols_ == nullptr) read_symbols();
  const auto found = symbols_->by_name.find(name);
  if (found == symbols_->by_name.end()) return std::nullopt;
  return found->second;
}

std::string_view ElfFile::symbol_at(std::uint64_t vaddr, AddrRange& range) {
  if (symbols_ == nullptr) read_symbols();
  std::string_view best;
  for (const auto& [name, place] : symbols_->by_name) {
    if (!place.contains(vaddr) && place.start != vaddr) continue;
    const bool nearer = best.empty() || place.start > range.start || (place.start == range.start && name < best);
    if (!nearer) continue;
    best = name;
    range = place;
  }
  return best;
}

}  // namespace heapcore

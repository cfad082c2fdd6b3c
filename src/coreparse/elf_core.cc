#include "coreparse/elf_core.h"

#include <fmt/format.h>
#include <gelf.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace heapcore {
namespace {

// The upper half belongs to the kernel; the one mapping there that cores list, [vsyscall], is none of the process's
// memory.
constexpr Addr kKernelHalf = Addr{1} << 63;

std::string_view type_name(std::uint16_t type) {
  switch (type) {
    case ET_REL:
      return "a relocatable object";
    case ET_EXEC:
      return "an executable";
    case ET_DYN:
      return "an executable or shared library";
    default:
      return "an ELF file of an unknown type";
  }
}

class HeaderReader {
 public:
  HeaderReader(std::span<const std::byte> file, const std::string& path, Findings& findings)
      : file_(file), path_(path), findings_(findings) {
    elf_version(EV_CURRENT);
    // libelf takes a non-const image but does not write to one opened for reading.
    auto* data = reinterpret_cast<char*>(const_cast<std::byte*>(file.data()));
    elf_.reset(elf_memory(data, file.size()));
  }

  Result<CoreHeaders> run() {
    const Status status = check_identity();
    if (!status) return status.error();
    out_.machine = header_.e_machine;
    const std::uint64_t count = program_header_count();
    for (std::uint64_t i = 0; i < count; ++i) {
      GElf_Phdr segment;
      if (!program_header(i, segment)) break;
      if (segment.p_type == PT_LOAD) add_load(segment);
      if (segment.p_type == PT_NOTE) add_notes(segment);
    }
    if (missing_bytes_ != 0) {
      findings_.add(
          {"core-truncated", Room::kCoreparse, first_missing_,
           fmt::format("the core is cut short: its headers promise {} bytes that {} does not have (disk full, "
                       "or a limit on its size?); all from there on is missing",
                       missing_bytes_, path_)});
    }
    if (out_.segments.empty()) {
      return Error{ErrorCode::kNotACore, fmt::format("{} is an ELF core without any memory in it", path_),
                   "the core was cut off right after its header; take it again with ulimit -c unlimited"};
    }
    return std::move(out_);
  }

 private:
  Status check_identity() {
    const std::string take_core = "take a core with gcore PID, or let the kernel write one (ulimit -c unlimited)";
    if (file_.size() < SELFMAG || std::memcmp(file_.data(), ELFMAG, SELFMAG) != 0) {
      return Error{ErrorCode::kNotACore, fmt::format("{} is not an ELF core file", path_), take_core};
    }
    if (file_.size() < sizeof(Elf64_Ehdr)) {
      return Error{ErrorCode::kNotACore, fmt::format("{} ends inside its ELF header", path_), take_core};
    }
    const auto* ident = reinterpret_cast<const unsigned char*>(file_.data());
    std::memcpy(&header_, file_.data(), sizeof header_);
    if (ident[EI_DATA] == ELFDATA2MSB) {
      header_.e_machine = static_cast<std::uint16_t>(header_.e_machine >> 8 | header_.e_machine << 8);
    }
    const bool supported =
        ident[EI_CLASS] == ELFCLASS64 && ident[EI_DATA] == ELFDATA2LSB && header_.e_machine == EM_X86_64;
    if (!supported) {
      return Error{ErrorCode::kWrongArchitecture,
                   fmt::format("{} is of another architecture: {}-bit {}-endian {}", path_,
                               ident[EI_CLASS] == ELFCLASS32 ? 32 : 64,
                               ident[EI_DATA] == ELFDATA2MSB ? "big" : "little", machine_name(header_.e_machine)),
                   "heapcore reads 64-bit x86-64 cores"};
    }
    if (header_.e_type != ET_CORE) {
      return Error{ErrorCode::kNotACore, fmt::format("{} is {}, not a core file", path_, type_name(header_.e_type)),
                   take_core};
    }
    if (elf_ == nullptr || gelf_getehdr(elf_.get(), &header_) == nullptr) {
      return Error{ErrorCode::kNotACore, fmt::format("{} has an ELF header that cannot be read", path_), take_core};
    }
    return std::monostate{};
  }

  std::uint64_t headers_that_fit() const {
    if (header_.e_phoff >= file_.size()) return 0;
    return (file_.size() - header_.e_phoff) / sizeof(Elf64_Phdr);
  }

  std::uint64_t program_header_count() {
    const bool extended = header_.e_phnum == PN_XNUM;
    // With PN_XNUM section header 0 holds the true count; the kernel writes it last, so a core that was cut lacks it.
    const bool counted = !extended || (header_.e_shoff != 0 && header_.e_shoff <= file_.size() - sizeof(Elf64_Shdr));
    std::size_t count = 0;
    // libelf counts no further than the file goes.
    const bool known = elf_getphdrnum(elf_.get(), &count) == 0 && count != 0 && (extended || count == header_.e_phnum);
    if (counted && known) return count;
    findings_.add({"core-headers-truncated", Room::kCoreparse, 0,
                   "the core's program header table cannot be read whole; segments may be missing"});
    if (!extended) return std::min<std::uint64_t>(header_.e_phnum, headers_that_fit());
    // Whatever a header points to begins behind the table.
    std::uint64_t table_end = file_.size();
    for (count = 0; count < headers_that_fit(); ++count) {
      const std::uint64_t at = header_.e_phoff + count * sizeof(Elf64_Phdr);
      if (at + sizeof(Elf64_Phdr) > table_end) break;
      Elf64_Phdr segment;
      std::memcpy(&segment, file_.data() + at, sizeof segment);
      if (segment.p_filesz != 0 && segment.p_offset > header_.e_phoff)
        table_end = std::min(table_end, segment.p_offset);
    }
    return count;
  }

  bool program_header(std::uint64_t index, GElf_Phdr& segment) const {
    if (index >= headers_that_fit()) return false;
    if (gelf_getphdr(elf_.get(), static_cast<int>(index), &segment) != nullptr) return true;
    std::memcpy(&segment, file_.data() + header_.e_phoff + index * sizeof(Elf64_Phdr), sizeof segment);
    return true;
  }

  // How many of a segment's bytes the file really has; counts the rest as missing.
  std::uint64_t bytes_in_file(const GElf_Phdr& segment) {
    const std::uint64_t promised =
        std::min(segment.p_filesz, segment.p_memsz == 0 ? segment.p_filesz : segment.p_memsz);
    const std::uint64_t available = segment.p_offset < file_.size() ? file_.size() - segment.p_offset : 0;
    if (promised <= available) return promised;
    if (missing_bytes_ == 0) first_missing_ = segment.p_vaddr + available;
    missing_bytes_ = checked_add(missing_bytes_, promised - available).value_or(~std::uint64_t{0});
    return available;
  }

  void add_load(const GElf_Phdr& segment) {
    const auto end = checked_add(segment.p_vaddr, segment.p_memsz);
    if (!end || segment.p_vaddr >= kKernelHalf || *end > kKernelHalf || segment.p_memsz == 0) return;
    const Addr present_end = segment.p_vaddr + bytes_in_file(segment);
    if (present_end != segment.p_vaddr) {
      const std::byte* bytes = file_.data() + segment.p_offset;
      out_.segments.push_back({segment.p_vaddr, present_end, bytes, ByteState::kPresent, false});
    }
    if (present_end < *end) out_.segments.push_back({present_end, *end, nullptr, ByteState::kNotDumped, false});
    Mapping mapping;
    mapping.start = segment.p_vaddr;
    mapping.end = *end;
    mapping.readable = (segment.p_flags & PF_R) != 0;
    mapping.writable = (segment.p_flags & PF_W) != 0;
    mapping.executable = (segment.p_flags & PF_X) != 0;
    out_.mappings.push_back(std::move(mapping));
  }

  void add_notes(const GElf_Phdr& segment) {
    const std::uint64_t there = bytes_in_file(segment);
    const std::uint64_t present = std::min(there, file_.size() - note_bytes_);
    if (present < there) out_.notes.cut_short = true;
    if (present == 0) return;
    note_bytes_ += present;
    Elf_Data* data = elf_getdata_rawchunk(elf_.get(), static_cast<std::int64_t>(segment.p_offset), present, ELF_T_NHDR);
    if (data == nullptr) return;
    GElf_Nhdr header;
    std::size_t at = 0;
    std::size_t name = 0;
    std::size_t description = 0;
    while ((at = gelf_getnote(data, at, &header, &name, &description)) != 0) {
      const auto* text = static_cast<const char*>(data->d_buf) + name;
      const auto* bytes = static_cast<const std::byte*>(data->d_buf) + description;
      read_core_note({text, ::strnlen(text, header.n_namesz)}, header.n_type, {bytes, header.n_descsz}, out_.notes);
    }
  }

  std::span<const std::byte> file_;
  const std::string& path_;
  Findings& findings_;
  std::unique_ptr<Elf, int (*)(Elf*)> elf_{nullptr, elf_end};
  GElf_Ehdr header_{};
  CoreHeaders out_;
  // Of all notes' segments; never more than the file has, however many headers lead to the same bytes.
  std::uint64_t note_bytes_ = 0;
  std::uint64_t missing_bytes_ = 0;
  Addr first_missing_ = 0;
};

}  // namespace

std::string_view machine_name(std::uint16_t machine) {
  switch (machine) {
    case EM_386:
      return "i386";
    case EM_X86_64:
      return "x86-64";
    case EM_ARM:
      return "arm";
    case EM_AARCH64:
      return "aarch64";
    case EM_PPC64:
      return "ppc64";
    case EM_S390:
      return "s390x";
    case EM_RISCV:
      return "riscv";
    case EM_MIPS:
      return "mips";
    default:
      return "an unknown machine";
  }
}

Result<CoreHeaders> read_core_headers(std::span<const std::byte> file, const std::string& path, Findings& findings) {
  return HeaderReader(file, path, findings).run();
}

}  // namespace heapcore

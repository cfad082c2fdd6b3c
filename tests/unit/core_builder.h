// Writes ELF64 cores of made-up processes: what the tests put in is what the product must find.
//
// It knows the formats from linux/elfcore.h, fs/binfmt_elf.c and the ELF specification, and shares no code with the
// product.
#pragma once

#include <elf.h>
#include <fcntl.h>
#include <sys/procfs.h>
#include <sys/user.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace heapcore::testing {

using Bytes = std::string;  // holds any bytes, and is easily appended to

template <typename T>
Bytes bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// Bytes that differ from page to page and from seed to seed.
inline Bytes pattern(std::size_t n, std::uint32_t seed) {
  Bytes result(n, '\0');
  std::uint32_t state = seed * 2654435761U + 1;
  for (char& c : result) {
    state = state * 1664525U + 1013904223U;
    c = static_cast<char>(state >> 24);
  }
  return result;
}

// A file that is gone when this is.
class TempFile {
 public:
  explicit TempFile(std::string_view contents = {}) {
    char name[] = "/tmp/heapcore-test-XXXXXX";
    const int fd = ::mkstemp(name);
    if (fd >= 0) ::close(fd);
    path_ = name;
    write(contents);
  }
  ~TempFile() { ::unlink(path_.c_str()); }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;

  const std::string& path() const { return path_; }
  void write(std::string_view contents) const {
    std::ofstream(path_, std::ios::binary).write(contents.data(), static_cast<std::streamsize>(contents.size()));
  }

 private:
  std::string path_;
};

inline Bytes read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct FileEntry {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint64_t page_offset = 0;  // in pages of 4096 bytes
  std::string path;
};

// Bytes of one note, padded to 4.
inline Bytes note(std::string_view owner, std::uint32_t type, std::string_view description) {
  const auto pad = [](Bytes& bytes) { bytes.resize((bytes.size() + 3) & ~std::size_t{3}); };
  Elf64_Nhdr header{};
  header.n_namesz = static_cast<Elf64_Word>(owner.size() + 1);
  header.n_descsz = static_cast<Elf64_Word>(description.size());
  header.n_type = type;
  Bytes result = bytes_of(header);
  result += owner;
  result += '\0';
  pad(result);
  result += description;
  pad(result);
  return result;
}

inline Bytes prstatus(std::int32_t tid, const user_regs_struct& regs, short signal) {
  prstatus_t status{};
  status.pr_pid = tid;
  status.pr_cursig = signal;
  std::memcpy(&status.pr_reg, &regs, sizeof regs);
  return bytes_of(status);
}

inline Bytes prpsinfo(std::int32_t pid, std::string_view program, std::string_view command) {
  prpsinfo_t info{};
  info.pr_pid = pid;
  program.copy(info.pr_fname, sizeof info.pr_fname);
  command.copy(info.pr_psargs, sizeof info.pr_psargs);
  return bytes_of(info);
}

inline Bytes auxv(const std::vector<std::pair<std::uint64_t, std::uint64_t>>& entries) {
  Bytes result;
  for (const auto& [type, value] : entries) result += bytes_of(type) + bytes_of(value);
  return result + Bytes(16, '\0');
}

inline Bytes mapped_files(const std::vector<FileEntry>& files) {
  Bytes result = bytes_of(std::uint64_t{files.size()}) + bytes_of(std::uint64_t{4096});
  for (const FileEntry& file : files) result += bytes_of(file.start) + bytes_of(file.end) + bytes_of(file.page_offset);
  for (const FileEntry& file : files) result += file.path + '\0';
  return result;
}

class CoreBuilder {
 public:
  Elf64_Half type = ET_CORE;
  Elf64_Half machine = EM_X86_64;
  bool notes_first = true;  // as the kernel does; gdb writes them last

  // Mapped at `start`: `contents`, and behind it memory_bytes - contents.size() bytes that were not dumped.
  CoreBuilder& load(std::uint64_t start, Bytes contents, std::uint64_t memory_bytes,
                    std::uint32_t flags = PF_R | PF_W) {
    loads_.push_back({start, std::move(contents), memory_bytes, flags});
    return *this;
  }
  CoreBuilder& load(std::uint64_t start, const Bytes& contents) { return load(start, contents, contents.size()); }

  CoreBuilder& add_note(std::string_view owner, std::uint32_t note_type, std::string_view description) {
    notes_ += note(owner, note_type, description);
    return *this;
  }
  CoreBuilder& thread(std::int32_t tid, const user_regs_struct& regs = {}, short signal = 0) {
    return add_note("CORE", NT_PRSTATUS, prstatus(tid, regs, signal));
  }
  CoreBuilder& files(const std::vector<FileEntry>& list) { return add_note("CORE", NT_FILE, mapped_files(list)); }

  // Program headers that say nothing (PT_NULL), so many that their number may not fit e_phnum.
  CoreBuilder& padding_headers(std::size_t n) {
    padding_headers_ = n;
    return *this;
  }

  // Where bytes came to lie in the file that bytes() returned last.
  std::size_t notes_offset() const { return notes_offset_; }
  std::size_t header_count() const { return 1 + padding_headers_ + loads_.size(); }
  std::size_t load_offset(std::size_t index) const { return loads_[index].offset; }
  std::size_t section_header_offset() const { return section_header_offset_; }

  Bytes bytes() {
    const std::size_t count = header_count();
    const bool extended = count >= PN_XNUM;
    const std::size_t headers_end = sizeof(Elf64_Ehdr) + count * sizeof(Elf64_Phdr);
    std::size_t at = headers_end;
    if (notes_first) {
      notes_offset_ = at;
      at += notes_.size();
    }
    for (Load& load : loads_) {
      at = (at + 4095) & ~std::size_t{4095};
      load.offset = at;
      at += load.contents.size();
    }
    if (!notes_first) {
      notes_offset_ = at;
      at += notes_.size();
    }
    section_header_offset_ = extended ? at : 0;  // the kernel writes it last

    Bytes out = bytes_of(elf_header(extended));
    const auto add_header = [&](std::uint32_t header_type, std::uint32_t flags, std::uint64_t offset,
                                std::uint64_t address, std::uint64_t file_bytes, std::uint64_t memory_bytes) {
      out += bytes_of(Elf64_Phdr{header_type, flags, offset, address, 0, file_bytes, memory_bytes, 4096});
    };
    add_header(PT_NOTE, 0, notes_offset_, 0, notes_.size(), 0);
    for (std::size_t i = 0; i < padding_headers_; ++i) add_header(PT_NULL, 0, 0, 0, 0, 0);
    for (const Load& load : loads_) {
      add_header(PT_LOAD, load.flags, load.offset, load.start, load.contents.size(), load.memory_bytes);
    }
    if (notes_first) out += notes_;
    for (const Load& load : loads_) {
      out.resize(load.offset);
      out += load.contents;
    }
    if (!notes_first) out += notes_;
    if (extended) out += bytes_of(section_header(count));
    return out;
  }

 private:
  struct Load {
    std::uint64_t start = 0;
    Bytes contents;
    std::uint64_t memory_bytes = 0;
    std::uint32_t flags = 0;
    std::size_t offset = 0;
  };

  Elf64_Ehdr elf_header(bool extended) const {
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = type;
    header.e_machine = machine;
    header.e_version = EV_CURRENT;
    header.e_phoff = sizeof header;
    header.e_ehsize = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = extended ? PN_XNUM : static_cast<Elf64_Half>(header_count());
    if (extended) {
      header.e_shoff = section_header_offset_;
      header.e_shentsize = sizeof(Elf64_Shdr);
      header.e_shnum = 1;
    }
    return header;
  }

  // Section header 0 holds the true number of program headers.
  static Elf64_Shdr section_header(std::size_t count) {
    Elf64_Shdr header{};
    header.sh_size = 1;
    header.sh_info = static_cast<Elf64_Word>(count);
    return header;
  }

  std::vector<Load> loads_;
  Bytes notes_;
  std::size_t padding_headers_ = 0;
  std::size_t notes_offset_ = 0;
  std::size_t section_header_offset_ = 0;
};

}  // namespace heapcore::testing

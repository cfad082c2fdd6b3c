// An ELF file on disk, as one of the target's modules: its identity, where its segments lie, its symbols and sections.
// Private to coreparse; others ask a Module.
//
// Addresses here are the file's own (p_vaddr, st_value): add the module's load bias. Not thread-safe.
#pragma once

#include <libelf.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "coreparse/image.h"
#include "support/addr.h"
#include "support/result.h"

namespace heapcore {

struct ElfLoad {
  std::uint64_t vaddr = 0;
  std::uint64_t offset = 0;
  std::uint64_t file_bytes = 0;  // never reaches beyond the file's end
  std::uint64_t memory_bytes = 0;
  bool readable = false;
  bool writable = false;
  bool executable = false;
};

struct ElfDynamic {
  std::uint64_t tag = 0;
  std::uint64_t value = 0;
};

class ElfFile {
 public:
  // Refuses what is not a little-endian ELF64 file of `machine`. Its separate debug file is looked for by build-id
  // below `debug_roots`, folders parted by colons.
  static Result<std::shared_ptr<ElfFile>> open(const std::string& path, std::uint16_t machine,
                                               const std::string& debug_roots = "/usr/lib/debug");
  ~ElfFile();
  ElfFile(const ElfFile&) = delete;
  ElfFile& operator=(const ElfFile&) = delete;

  std::span<const std::byte> bytes() const { return image_.bytes(); }
  const std::vector<std::byte>& build_id() const { return build_id_; }
  const std::vector<ElfLoad>& loads() const { return loads_; }
  // PT_DYNAMIC's place and entries, up to DT_NULL; empty in a static program.
  AddrRange dynamic_range() const { return dynamic_range_; }
  const std::vector<ElfDynamic>& dynamic() const { return dynamic_; }

  // The bytes that the file has for [vaddr, vaddr + n); empty unless one segment holds all of them.
  std::span<const std::byte> at_vaddr(std::uint64_t vaddr, std::uint64_t n) const;

  std::optional<AddrRange> section(std::string_view name) const;
  // From .symtab (also of a separate debug file found by build-id) or else .dynsym.
  std::optional<AddrRange> symbol(std::string_view name);
  // The name of the symbol that holds this address; of several the nearest, then the first by name. Empty if none does.
  std::string_view symbol_at(std::uint64_t vaddr, AddrRange& range);

 private:
  struct Symbols;
  ElfFile() = default;
  Status read_headers(std::uint16_t machine);
  void read_symbols();

  std::string path_;
  std::string debug_roots_;
  Image image_;
  std::unique_ptr<Elf, int (*)(Elf*)> elf_{nullptr, nullptr};  // libelf's view of image_
  std::vector<std::byte> build_id_;
  std::vector<ElfLoad> loads_;
  AddrRange dynamic_range_;
  std::vector<ElfDynamic> dynamic_;
  std::unique_ptr<Symbols> symbols_;
};

// The build-id in a PT_NOTE's bytes; empty if there is none.
std::vector<std::byte> build_id_in_notes(std::span<const std::byte> notes);

}  // namespace heapcore

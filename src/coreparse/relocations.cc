// Module::relative_relocations and initial_bytes: what a module's file on disk says of its data before it ran.
#include <elf.h>

#include <cstring>

#include "coreparse/elf_file.h"
#include "coreparse/snapshot.h"

namespace heapcore {
namespace {

// DT_RELR and DT_RELRSZ, of the generic ABI since 2022; elf.h has them from glibc 2.36 on.
constexpr std::uint64_t kDtRelrSize = 35;
constexpr std::uint64_t kDtRelr = 36;

std::uint64_t dynamic_value(const ElfFile& file, std::uint64_t tag) {
  for (const ElfDynamic& entry : file.dynamic()) {
    if (entry.tag == tag) return entry.value;
  }
  return 0;
}

std::uint64_t word_at(std::span<const std::byte> bytes, std::size_t offset) {
  std::uint64_t word = 0;
  std::memcpy(&word, bytes.data() + offset, sizeof word);
  return word;
}

void add_rela(const ElfFile& file, Addr bias, std::vector<RelativeRelocation>& out) {
  const std::span<const std::byte> table = file.at_vaddr(dynamic_value(file, DT_RELA), dynamic_value(file, DT_RELASZ));
  for (std::size_t at = 0; at + sizeof(Elf64_Rela) <= table.size(); at += sizeof(Elf64_Rela)) {
    Elf64_Rela entry;
    std::memcpy(&entry, table.data() + at, sizeof entry);
    const std::uint64_t type = ELF64_R_TYPE(entry.r_info);
    if (type != R_X86_64_RELATIVE && type != R_AARCH64_RELATIVE) continue;
    out.push_back({bias + entry.r_offset, bias + static_cast<std::uint64_t>(entry.r_addend)});
  }
}

// The addend of a RELR entry lies in the place itself.
void add_relr_place(const ElfFile& file, Addr bias, std::uint64_t place, std::vector<RelativeRelocation>& out) {
  const std::span<const std::byte> word = file.at_vaddr(place, sizeof(std::uint64_t));
  if (!word.empty()) out.push_back({bias + place, bias + word_at(word, 0)});
}

// An even word is a place; an odd one is a bitmap of the 63 words that follow the place last seen.
void add_relr(const ElfFile& file, Addr bias, std::vector<RelativeRelocation>& out) {
  const std::span<const std::byte> table =
      file.at_vaddr(dynamic_value(file, kDtRelr), dynamic_value(file, kDtRelrSize));
  std::uint64_t next = 0;
  for (std::size_t at = 0; at + sizeof(std::uint64_t) <= table.size(); at += sizeof(std::uint64_t)) {
    const std::uint64_t entry = word_at(table, at);
    if ((entry & 1) == 0) {
      add_relr_place(file, bias, entry, out);
      next = entry + 8;
      continue;
    }
    for (unsigned bit = 1; bit < 64; ++bit) {
      if ((entry >> bit & 1) != 0) add_relr_place(file, bias, next + 8 * (bit - 1), out);
    }
    next += std::uint64_t{63} * 8;
  }
}

}  // namespace

std::vector<RelativeRelocation> Module::relative_relocations() const {
  std::vector<RelativeRelocation> out;
  if (elf == nullptr) return out;
  add_rela(*elf, load_bias, out);
  add_relr(*elf, load_bias, out);
  return out;
}

std::span<const std::byte> Module::initial_bytes(Addr address, std::uint64_t n) const {
  return elf == nullptr ? std::span<const std::byte>{} : elf->at_vaddr(address - load_bias, n);
}

}  // namespace heapcore

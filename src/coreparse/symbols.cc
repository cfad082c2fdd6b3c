// Module::symbol: from the file on disk when there is one, else from the dynamic symbol table in the target's own memory.
#include <elf.h>

#include <cstring>

#include "coreparse/elf_file.h"
#include "coreparse/snapshot.h"

namespace heapcore {
namespace {

// The dynamic symbol table of a loaded module as its memory holds it: enough to look up one name by GNU hash.
class MemorySymbols {
 public:
  MemorySymbols(const Module& module, const AddressSpace& space) : module_(module), reader_(space) {}

  std::optional<Symbol> find(std::string_view name) {
    if (!read_dynamic() || gnu_hash_ == 0 || symtab_ == 0 || strtab_ == 0) return std::nullopt;
    struct Header {
      std::uint32_t buckets, first_symbol, bloom_words, bloom_shift;
    };
    const auto header = reader_.load<Header>(gnu_hash_);
    if (!header || header->buckets == 0) return std::nullopt;
    const std::uint32_t hash = hash_of(name);
    const Addr buckets = gnu_hash_ + sizeof(Header) + std::uint64_t{header->bloom_words} * 8;
    const auto first = reader_.load<std::uint32_t>(buckets + std::uint64_t{hash % header->buckets} * 4);
    if (!first || *first < header->first_symbol) return std::nullopt;
    const Addr chains = buckets + std::uint64_t{header->buckets} * 4;
    for (std::uint32_t index = *first, steps = 0; steps < kMaxChain; ++index, ++steps) {
      const auto chain = reader_.load<std::uint32_t>(chains + std::uint64_t{index - header->first_symbol} * 4);
      if (!chain) return std::nullopt;
      if ((*chain | 1) == (hash | 1)) {
        if (const auto symbol = check(index, name)) return symbol;
      }
      if ((*chain & 1) != 0) return std::nullopt;
    }
    return std::nullopt;
  }

 private:
  static constexpr std::uint32_t kMaxChain = 1 << 20;

  static std::uint32_t hash_of(std::string_view name) {
    std::uint32_t hash = 5381;
    for (const char c : name) hash = hash * 33 + static_cast<unsigned char>(c);
    return hash;
  }

  std::optional<Symbol> check(std::uint32_t index, std::string_view name) {
    const auto symbol = reader_.load<Elf64_Sym>(symtab_ + std::uint64_t{index} * sizeof(Elf64_Sym));
    if (!symbol || symbol->st_shndx == SHN_UNDEF || ELF64_ST_TYPE(symbol->st_info) == STT_TLS) return std::nullopt;
    if (reader_.c_string(strtab_ + symbol->st_name, name.size() + 1) != name) return std::nullopt;
    return Symbol{module_.load_bias + symbol->st_value, symbol->st_size};
  }

  bool read_dynamic() {
    const Addr base = module_.range.start;
    const auto header = reader_.load<Elf64_Ehdr>(base);
    if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return false;
    for (std::uint32_t i = 0; i < header->e_phnum; ++i) {
      const auto segment = reader_.load<Elf64_Phdr>(base + header->e_phoff + i * sizeof(Elf64_Phdr));
      if (!segment) return false;
      if (segment->p_type != PT_DYNAMIC) continue;
      const std::uint64_t count = segment->p_memsz / sizeof(Elf64_Dyn);
      for (std::uint64_t k = 0; k < count && k < 1024; ++k) {
        const auto entry = reader_.load<Elf64_Dyn>(module_.load_bias + segment->p_vaddr + k * sizeof(Elf64_Dyn));
        if (!entry || entry->d_tag == DT_NULL) break;
        // ld.so relocates these in place on x86-64; before it ran they are relative to the load bias.
        Addr value = entry->d_un.d_ptr;
        if (value < module_.load_bias) value += module_.load_bias;
        if (entry->d_tag == DT_GNU_HASH) gnu_hash_ = value;
        if (entry->d_tag == DT_SYMTAB) symtab_ = value;
        if (entry->d_tag == DT_STRTAB) strtab_ = value;
      }
      return true;
    }
    return false;
  }

  const Module& module_;
  Reader reader_;
  Addr gnu_hash_ = 0;
  Addr symtab_ = 0;
  Addr strtab_ = 0;
};

}  // namespace

std::optional<Symbol> Module::symbol(std::string_view symbol_name, const AddressSpace& space) const {
  if (elf == nullptr) return MemorySymbols(*this, space).find(symbol_name);
  const std::optional<AddrRange> found = elf->symbol(symbol_name);
  if (!found) return std::nullopt;
  return Symbol{load_bias + found->start, found->size_bytes()};
}

}  // namespace heapcore

// Module::symbol: from the file on disk when there is one that knows it, else from the dynamic symbol table in the
// target's own memory.
#include <elf.h>
#include <fmt/format.h>

#include "coreparse/elf_file.h"
#include "coreparse/memory_elf.h"
#include "coreparse/snapshot.h"

namespace heapcore {
namespace {

// The dynamic symbol table of a loaded module as its memory holds it: enough to look up one name by GNU hash.
class MemorySymbols {
 public:
  MemorySymbols(const Module& module, const AddressSpace& space) : module_(module), reader_(space) {
    if (const auto elf = read_memory_elf(reader_, module.range.start, EM_X86_64)) tables_ = elf->dynamic;
  }

  std::optional<Symbol> find(std::string_view name) {
    if (tables_.gnu_hash == 0 || tables_.symtab == 0 || tables_.strtab == 0) return std::nullopt;
    struct Header {
      std::uint32_t buckets, first_symbol, bloom_words, bloom_shift;
    };
    const auto header = reader_.load<Header>(tables_.gnu_hash);
    if (!header || header->buckets == 0) return std::nullopt;
    const std::uint32_t hash = hash_of(name);
    const Addr buckets = tables_.gnu_hash + sizeof(Header) + std::uint64_t{header->bloom_words} * 8;
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

  // Are all three tables in the snapshot, at least where they begin?
  bool present() {
    return reader_.load<std::uint32_t>(tables_.gnu_hash) && reader_.load<std::uint32_t>(tables_.symtab) &&
           reader_.load<std::uint8_t>(tables_.strtab);
  }

 private:
  static constexpr std::uint32_t kMaxChain = 1 << 20;

  static std::uint32_t hash_of(std::string_view name) {
    std::uint32_t hash = 5381;
    for (const char c : name) hash = hash * 33 + static_cast<unsigned char>(c);
    return hash;
  }

  std::optional<Symbol> check(std::uint32_t index, std::string_view name) {
    const auto symbol = reader_.load<Elf64_Sym>(tables_.symtab + std::uint64_t{index} * sizeof(Elf64_Sym));
    if (!symbol || symbol->st_shndx == SHN_UNDEF || ELF64_ST_TYPE(symbol->st_info) == STT_TLS) return std::nullopt;
    if (reader_.c_string(tables_.strtab + symbol->st_name, name.size() + 1) != name) return std::nullopt;
    return Symbol{module_.load_bias + symbol->st_value, symbol->st_size};
  }

  const Module& module_;
  Reader reader_;
  MemoryDynamic tables_;
};

}  // namespace

bool Module::tells_symbols(const AddressSpace& space) const {
  return elf != nullptr || MemorySymbols(*this, space).present();
}

std::optional<Symbol> Module::symbol(std::string_view symbol_name, const AddressSpace& space) const {
  if (elf != nullptr) {
    const std::optional<AddrRange> found = elf->symbol(symbol_name);
    if (found) return Symbol{load_bias + found->start, found->size_bytes()};
  }
  return MemorySymbols(*this, space).find(symbol_name);
}

std::string Module::symbol_at(Addr address) const {
  AddrRange place;
  const std::string_view symbol_name = elf == nullptr ? "" : elf->symbol_at(address - load_bias, place);
  if (symbol_name.empty()) return "";
  const std::uint64_t offset = address - load_bias - place.start;
  return offset == 0 ? std::string(symbol_name) : fmt::format("{}+{:#x}", symbol_name, offset);
}

}  // namespace heapcore

#include "pyobj/number_blocks.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <unordered_set>

#include "coreparse/code.h"
#include "pyobj/strings.h"

namespace heapcore {
namespace {

// No list is longer: so many blocks fill a terabyte.
constexpr std::uint64_t kMaxBlocks = std::uint64_t{1} << 30;

std::span<const std::byte> block_at(Reader& reader, const PyTraits& traits, Addr address) {
  if (!is_aligned(address, 8)) return {};
  return reader.span(address, number_block_bytes(traits));
}

struct NumberKind {
  const char* name;
  const char* type_symbol;
  const char* function;  // that reads the list's head
};

constexpr NumberKind kNumberKinds[] = {{"int", "PyInt_Type", "PyInt_ClearFreeList"},
                                       {"float", "PyFloat_Type", "PyFloat_ClearFreeList"}};

enum class BlockShape : std::uint8_t { kNone, kAllFree, kInUse };

// Whether these can be the bytes of a block of such numbers: every slot holds a number in use or a link. A link leads
// to another slot, so behind it is a number, a link or the list's end.
BlockShape shape_of(Reader& reader, const PyTraits& traits, Addr type, std::span<const std::byte> bytes) {
  const PyLayout& layout = *traits.layout;
  const std::uint64_t stride = layout.PyIntObject.size_bytes;
  if (bytes.empty()) return BlockShape::kNone;
  BlockShape shape = BlockShape::kAllFree;
  for (std::uint64_t at = layout._intblock.objects.offset; at + stride <= bytes.size(); at += stride) {
    Addr word = 0;
    Addr behind = 0;
    std::memcpy(&word, bytes.data() + at + layout.PyObject.ob_type.offset, sizeof word);
    if (word == type) shape = BlockShape::kInUse;
    if (word == type || word == 0) continue;
    const bool sound =
        is_aligned(word, 8) && reader.try_load(word + layout.PyObject.ob_type.offset, behind) && is_aligned(behind, 8);
    if (!sound) return BlockShape::kNone;
  }
  return shape;
}

class BlockSearch {
 public:
  BlockSearch(const Snapshot& snapshot, const Module& module, const PyRuntime& runtime)
      : snapshot_(snapshot),
        module_(module),
        traits_(runtime.traits),
        type_type_(runtime.type_type),
        reader_(snapshot.space) {}

  std::optional<NumberBlockList> find(const NumberKind& kind, const std::vector<Interpreter>& interpreters) {
    const Addr type = type_of(kind, interpreters);
    if (type == 0) return std::nullopt;
    if (auto list = by_code(type, kind.function)) return list;
    return by_structure(type);
  }

 private:
  // By symbol, or as the module of builtins names it.
  Addr type_of(const NumberKind& kind, const std::vector<Interpreter>& interpreters) {
    if (const std::optional<Symbol> symbol = module_.symbol(kind.type_symbol, snapshot_.space)) return symbol->address;
    for (const Interpreter& interpreter : interpreters) {
      Addr builtins = 0;
      Addr type = 0;
      const Addr builtins_at = interpreter.address + traits_.layout->PyInterpreterState.builtins.offset;
      if (!reader_.try_load(builtins_at, builtins)) continue;
      const std::optional<Addr> found = dict_get(reader_, traits_, builtins, kind.name);
      const Addr type_at = found.value_or(0) + traits_.layout->PyObject.ob_type.offset;
      if (found && reader_.try_load(type_at, type) && type == type_type_) return *found;
    }
    return 0;
  }

  std::optional<NumberBlockList> by_code(Addr type, const char* function) {
    constexpr std::uint32_t kMaxInstructions = 32;
    const std::optional<Symbol> code = module_.symbol(function, snapshot_.space);
    if (!code) return std::nullopt;
    for (const CodeRef& reference : code_references(reader_, code->address, kMaxInstructions)) {
      NumberBlockList list{type, 0, "code"};
      if (reference.kind != CodeRefKind::kLoad || reference.width_bytes != 8) continue;
      if (reader_.try_load(reference.target, list.first) && length(type, list.first) != 0) return list;
    }
    return std::nullopt;
  }

  // How many blocks follow each other from `first` on; 0 if none of them holds a number.
  std::uint64_t length(Addr type, Addr first) {
    std::unordered_set<Addr> seen;
    bool any_in_use = false;
    for (Addr at = first; at != 0;) {
      const std::span<const std::byte> bytes = block_at(reader_, traits_, at);
      const BlockShape shape = shape_of(link_reader_, traits_, type, bytes);
      if (shape == BlockShape::kNone || !seen.insert(at).second) break;
      any_in_use = any_in_use || shape == BlockShape::kInUse;
      std::memcpy(&at, bytes.data() + traits_.layout->_intblock.next.offset, sizeof at);
    }
    return any_in_use ? seen.size() : 0;
  }

  std::optional<NumberBlockList> by_structure(Addr type) {
    NumberBlockList best{type, 0, "structure"};
    std::uint64_t longest = 0;
    Reader variables(snapshot_.space);
    for (const AddrRange& range : snapshot_.variables_of(module_)) {
      if (range.size_bytes() > (64 << 20)) continue;
      for (Addr at = range.start; at + 8 <= range.end; at += 8) {
        Addr first = 0;
        if (!variables.try_load(at, first) || first < 4096) continue;
        const std::uint64_t blocks = length(type, first);
        if (blocks <= longest) continue;
        longest = blocks;
        best.first = first;
      }
    }
    return longest == 0 ? std::nullopt : std::optional(best);
  }

  const Snapshot& snapshot_;
  const Module& module_;
  const PyTraits& traits_;
  Addr type_type_;
  Reader reader_;
  Reader link_reader_{snapshot_.space};
};

}  // namespace

std::uint64_t number_block_bytes(const PyTraits& traits) {
  return traits.layout->_intblock.size_bytes;
}

void find_number_blocks(const Snapshot& snapshot, const Module& module, PyRuntime& runtime, Findings& findings) {
  if (runtime.traits.number_home != NumberHome::kNumberBlocks) return;
  BlockSearch search(snapshot, module, runtime);
  for (const NumberKind& kind : kNumberKinds) {
    if (const auto list = search.find(kind, runtime.interpreters)) {
      runtime.number_blocks.push_back(*list);
    } else {
      findings.add(
          {"number-blocks-not-found", Room::kPyobj, module.range.start,
           fmt::format("the blocks that hold the objects of {} were not found; those are not counted", kind.name)});
    }
  }
}

std::vector<Addr> read_number_blocks(Reader& reader, const PyTraits& traits, const NumberBlockList& list,
                                     Findings& findings) {
  const std::uint64_t size = number_block_bytes(traits);
  std::vector<Addr> blocks;
  std::unordered_set<Addr> seen;
  Addr at = list.first;
  while (at != 0 && seen.size() < kMaxBlocks) {
    const std::span<const std::byte> bytes = block_at(reader, traits, at);
    if (bytes.empty() || !seen.insert(at).second) {
      findings.add({"number-blocks-broken", Room::kPyobj, at,
                    bytes.empty() ? "the list of the blocks of numbers leads to where no memory is; numbers behind it "
                                    "are not counted"
                                  : "the list of the blocks of numbers meets itself"});
      break;
    }
    std::memcpy(&at, bytes.data() + traits.layout->_intblock.next.offset, sizeof at);
  }
  blocks.assign(seen.begin(), seen.end());
  std::sort(blocks.begin(), blocks.end());
  // Blocks that overlap would count their numbers twice.
  const auto overlaps = [&](Addr before, Addr after) { return after - before < size; };
  const auto first_bad = std::adjacent_find(blocks.begin(), blocks.end(), overlaps);
  if (first_bad != blocks.end()) {
    findings.add({"number-blocks-broken", Room::kPyobj, *first_bad, "blocks of numbers overlap; one is left out"});
    blocks.erase(std::unique(blocks.begin(), blocks.end(), overlaps), blocks.end());
  }
  return blocks;
}

}  // namespace heapcore

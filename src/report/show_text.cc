#include <fmt/format.h>

#include "report/format.h"
#include "report/malloc_answers.h"
#include "report/show_answers.h"
#include "report/text_parts.h"

namespace heapcore {
namespace {

std::string line(std::string_view label, const std::string& value) {
  return fmt::format("  {:<10}{}\n", label, value);
}

std::string block_text(const BlockPlace& block) {
  const char* holder = std::string_view(block.allocator) == "mimalloc" ? "page" : "pool";
  const std::string where = fmt::format("{} {} of arena {} ({})", holder, address_text(block.pool),
                                        address_text(block.arena), block.allocator);
  if (block.pool == 0) return fmt::format("never used, in arena {} ({})", address_text(block.arena), block.allocator);
  if (block.address == 0) {
    return fmt::format("{} {}", block.state == BlockState::kHeader ? "the header of" : "free, in the free", where);
  }
  const char* state = block.state == BlockState::kInUse  ? "in use"
                      : block.state == BlockState::kFree ? "free"
                                                         : "never used";
  return fmt::format("{} B at {}, {}, in {}", count_text(block.block_bytes), address_text(block.address), state, where);
}

// A section of named parts: "  attributes" and a line for each.
std::string parts_text(std::string_view title, const std::vector<ValuePart>& parts, const TextStyle& style) {
  if (parts.empty()) return "";
  std::string text = fmt::format("  {}\n", title);
  std::size_t shown = 0;
  for (const ValuePart& part : parts) {
    if (style.limit != 0 && shown++ == style.limit) {
      text += fmt::format("    ({} more; --limit 0 shows all)\n", count_text(parts.size() - style.limit));
      break;
    }
    const std::string name = part.name.empty() ? "" : printable(part.name) + (title == "items" ? ": " : " = ");
    const std::string at = part.address == 0 ? "" : fmt::format("  [{}]", address_text(part.address));
    text += fmt::format("    {}{}{}\n", name, printable(part.text), at);
  }
  return text;
}

std::string object_text(const SeenObject& object, Addr asked, const TextStyle& style) {
  const Value& value = object.value;
  std::string at = address_text(object.address);
  const auto offset = static_cast<std::int64_t>(asked - object.address);
  if (offset != 0)
    at += fmt::format(" ({} bytes {} the address asked for)", std::abs(offset), offset > 0 ? "before" : "after");
  std::string text = line("object", fmt::format("{} at {}", printable(object.type), at));
  text += line("is", fmt::format("{}, {} B, {}{}", kind_name(object.kind), count_text(object.bytes),
                                 object.immortal ? "immortal"
                                                 : counted(static_cast<std::uint64_t>(object.refcount), "reference"),
                                 object.tracked ? ", tracked by the collector" : ""));
  text += line("type at", address_text(object.type_address));
  text += line("value", printable(value.text));
  if (value.length) text += line("length", count_text(*value.length));
  for (const ValuePart& field : value.fields) {
    const std::string ref = field.address == 0 ? "" : fmt::format("  [{}]", address_text(field.address));
    text += line(field.name, fmt::format("{}{}", printable(field.text), ref));
  }
  text += parts_text("attributes", value.attributes, style);
  text += parts_text("locals", value.locals, style);
  text += parts_text("items", value.items, style);
  if (value.length && value.items.size() < *value.length && !value.items.empty()) {
    text += fmt::format("    ({} more; --limit 0 shows all)\n", count_text(*value.length - value.items.size()));
  }
  text += parts_text("pointers found in it (its type is not known)", value.pointers, style);
  return text;
}

std::string nothing_text(const Sight& sight, const Process& process) {
  if (sight.mapping == nullptr) return line("is", "not mapped: no address of this process");
  if (process.runtime() == nullptr) return line("object", "none: there is no Python that could be decoded");
  if (sight.block && sight.block->state != BlockState::kInUse) return line("object", "none: the block is free");
  if (sight.chunk && sight.chunk->kind == PlaceKind::kChunk && !sight.chunk->chunk->in_use())
    return line("object", "none: the chunk is free");
  return line("object", "none: a table, an item array, a buffer, or native data");
}

}  // namespace

std::string show_text(const Process& process, const std::vector<Sight>& sights, const TextStyle& style) {
  std::string text;
  for (const Sight& sight : sights) {
    if (!text.empty()) text += '\n';
    text += address_text(sight.address) + "\n";
    if (sight.object) text += object_text(*sight.object, sight.address, style);
    if (sight.block) text += line("block", block_text(*sight.block));
    if (sight.chunk && !sight.block) text += place_text(*process.heap(), *sight.chunk, "  ");
    if (!sight.object) text += nothing_text(sight, process);
    if (sight.module != nullptr) {
      text += line("module",
                   fmt::format("{} +{:#x}{}", printable(sight.module->path), sight.address - sight.module->load_bias,
                               sight.symbol.empty() ? "" : ", " + printable(sight.symbol)));
    }
    if (sight.mapping != nullptr) {
      const Mapping& mapping = *sight.mapping;
      text += line("mapping", fmt::format("{} to {} {} {}", address_text(mapping.start), address_text(mapping.end),
                                          permissions_text(mapping),
                                          mapping.path.empty() ? "anonymous" : printable(mapping.path)));
    }
  }
  return text;
}

}  // namespace heapcore

#include <fmt/format.h>

#include "pyobj/builtins_names.h"
#include "report/diff_answers.h"
#include "report/format.h"
#include "report/json_parts.h"
#include "report/text_parts.h"

namespace heapcore {
namespace {

// Of the largest; what holds less is not worth a line.
constexpr std::uint64_t kSmallPart = 1000;

Json type_json(const TypeGrowth& type) {
  return {{"older", count_bytes(type.older)},       {"newer", count_bytes(type.newer)},
          {"new", count_bytes(type.added)},         {"gone", count_bytes(type.gone)},
          {"survived", count_bytes(type.survived)}, {"grown_bytes", type.grown_bytes()}};
}

Json figures_json(const std::vector<FigureGrowth>& figures) {
  Json list = Json::array();
  for (const FigureGrowth& figure : figures)
    list.push_back({{"what", figure.what},
                    {"older_bytes", figure.older},
                    {"newer_bytes", figure.newer},
                    {"grown_bytes", figure.grown()}});
  return list;
}

// "+1.2 MiB", "-812 B"; "-" of no change.
std::string growth_text(std::int64_t bytes) {
  if (bytes == 0) return "-";
  const std::uint64_t size = bytes < 0 ? 0 - static_cast<std::uint64_t>(bytes) : static_cast<std::uint64_t>(bytes);
  return (bytes < 0 ? "-" : "+") + bytes_text(size);
}

std::string type_text(const TypeGrowth& type) {
  return printable(type.module.empty() || is_builtins(type.module) ? type.name : type.module + "." + type.name);
}

std::string figures_text(const std::vector<FigureGrowth>& figures) {
  TextTable table({{"", Align::kLeft}, {"older", Align::kRight}, {"newer", Align::kRight}, {"growth", Align::kRight}});
  for (const FigureGrowth& figure : figures)
    table.add({figure.what, bytes_text(figure.older), bytes_text(figure.newer), growth_text(figure.grown())});
  return table.text("  ");
}

}  // namespace

Json diff_json(const Diff& diff, const Process& older) {
  Json types = Json::array();
  for (const TypeGrowth& type : diff.types) {
    Json row = {{"module", type.module}, {"name", type.name}};
    row.update(type_json(type));
    types.push_back(std::move(row));
  }
  Json holders = Json::array();
  for (const HeldGrowth& held : diff.holders)
    holders.push_back({{"type", held.type},
                       {"held_by", held.path},
                       {"count", held.count},
                       {"retained_bytes", held.retained_bytes},
                       {"example", address_text(held.example)}});
  return {{"older", {{"path", older.snapshot.info.path}, {"pid", older.snapshot.info.pid}}},
          {"types", std::move(types)},
          {"types_count", diff.types_count},
          {"total", type_json(diff.total)},
          {"holders", std::move(holders)},
          {"holders_count", diff.holders_count},
          {"allocators", figures_json(diff.figures)},
          {"ledger", figures_json(diff.ledger)}};
}

std::string diff_text(const Diff& diff, const Process& older, const TextStyle& style) {
  std::string text = fmt::format("  compared with {}: objects of {} before, of {} now ({})\n",
                                 printable(older.snapshot.info.path), bytes_text(diff.total.older.bytes),
                                 bytes_text(diff.total.newer.bytes), growth_text(diff.total.grown_bytes()));
  TextTable holders(
      {{"new", Align::kRight}, {"retain", Align::kRight}, {"type", Align::kLeft}, {"held by", Align::kLeft}});
  std::uint64_t small = diff.holders_count - diff.holders.size();
  for (const HeldGrowth& held : diff.holders) {
    if (held.retained_bytes < diff.holders.front().retained_bytes / kSmallPart) {
      ++small;
      continue;
    }
    holders.add({count_text(held.count), bytes_text(held.retained_bytes), printable(without_builtins(held.type)),
                 printable(held.path)});
  }
  if (!diff.holders.empty()) text += heading("What is new, by who holds it", style) + holders.text("  ");
  if (small != 0)
    text += fmt::format("  ({} more, which retain little; --json --limit 0 has all)\n", count_text(small));
  TextTable types({{"growth", Align::kRight},
                   {"new", Align::kRight},
                   {"gone", Align::kRight},
                   {"survived", Align::kRight},
                   {"type", Align::kLeft}});
  const auto add = [&](const TypeGrowth& type, const std::string& name) {
    types.add({growth_text(type.grown_bytes()), amount(type.added), amount(type.gone), amount(type.survived), name});
  };
  for (const TypeGrowth& type : diff.types) add(type, type_text(type));
  add(diff.total, diff.types.size() < diff.types_count ? fmt::format("total; {} more types, --limit 0 shows all",
                                                                     count_text(diff.types_count - diff.types.size()))
                                                       : "total");
  text += heading("Growth by type", style) + types.text("  ");
  text += heading("Allocators", style) + figures_text(diff.figures);
  text += heading("Where the memory is", style) + figures_text(diff.ledger);
  return text;
}

}  // namespace heapcore

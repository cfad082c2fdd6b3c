#include "pyobj/kinds.h"

#include <unordered_map>

namespace heapcore {
namespace {

constexpr KindRow kRows[] = {
#define HC_KIND(kind, tp_name, tag, rule) {Kind::kind, tp_name, StructId::k##tag, SizeRule::rule},
#include "pyobj/kinds.def"
};

}  // namespace

const KindRow* kind_row(std::string_view tp_name) {
  static const std::unordered_map<std::string_view, const KindRow*> by_name = [] {
    std::unordered_map<std::string_view, const KindRow*> rows;
    for (const KindRow& row : kRows) rows.emplace(row.tp_name, &row);
    return rows;
  }();
  const auto found = by_name.find(tp_name);
  return found == by_name.end() ? nullptr : found->second;
}

}  // namespace heapcore

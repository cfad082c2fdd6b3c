#include <fmt/format.h>

#include <map>

#include "report/format.h"
#include "report/holder_answers.h"
#include "report/json_parts.h"
#include "report/text_parts.h"

namespace heapcore {
namespace {

// A string literal of the DOT language.
std::string dot_string(std::string_view text) {
  std::string result = "\"";
  for (const char c : printable(text)) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + '"';
}

}  // namespace

Json paths_json(const PathsAnswer& answer, const HeapGraph& graph) {
  Json list = Json::array();
  for (const HeldBy& held : answer.paths) {
    Json steps = Json::array();
    for (const PathStep& step : held.path.steps) {
      steps.push_back({{"address", address_text(graph.blocks.address(step.node))},
                       {"type", graph.type_name(step.node)},
                       {"edge", step.edge}});
    }
    const std::string name = held.path.steps.empty() ? "" : held.path.steps.front().edge;
    list.push_back(
        {{"text", held.text},
         {"root", {{"kind", root_kind_name(held.path.root.value_or(RootKind::kUnreachable))}, {"name", name}}},
         {"steps", std::move(steps)},
         {"omitted_steps", held.path.omitted},
         {"count", held.count},
         {"bytes", held.bytes}});
  }
  return {{"paths", std::move(list)}, {"paths_count", answer.paths_count}, {"total", count_bytes(answer.total)}};
}

std::string paths_text(const PathsAnswer& answer, const TextStyle&) {
  std::string text = fmt::format("{}, {}\n", counted(answer.total.count, "object"), bytes_text(answer.total.bytes));
  TextTable table({{"count", Align::kRight}, {"bytes", Align::kRight}, {"held by", Align::kLeft}});
  for (const HeldBy& held : answer.paths)
    table.add({count_text(held.count), bytes_text(held.bytes), printable(held.text)});
  if (!answer.paths.empty()) text += table.text("  ");
  if (answer.paths.size() < answer.paths_count) {
    text += fmt::format("  ({} more; --limit 0 shows all)\n", count_text(answer.paths_count - answer.paths.size()));
  }
  return text;
}

// One graph of all the paths; where they begin alike, they are drawn once.
std::string paths_dot(const PathsAnswer& answer, const HeapGraph& graph) {
  std::string text = "digraph paths {\n  rankdir=LR;\n  node [shape=box];\n";
  std::map<std::string, std::size_t> numbers;
  for (const HeldBy& held : answer.paths) {
    std::string way;
    std::string from;
    for (std::size_t i = 0; i < held.path.steps.size(); ++i) {
      const PathStep& step = held.path.steps[i];
      const std::string type = graph.type_name(step.node);
      const auto number = [&](const std::string& key, const std::string& label) {
        const auto [entry, is_new] = numbers.try_emplace(key, numbers.size());
        const std::string name = fmt::format("n{}", entry->second);
        if (is_new) text += fmt::format("  {} [label={}];\n", name, dot_string(label));
        return std::pair(name, is_new);
      };
      if (i == 0) {
        way = "root " + step.edge;
        from = number(way, step.edge).first;
      }
      way += fmt::format("\n{}\n{}", step.edge, type);
      const bool last = i + 1 == held.path.steps.size();
      const std::string label =
          last ? fmt::format("{}: {}, {}", type, count_text(held.count), bytes_text(held.bytes)) : type;
      const auto [name, is_new] = number(last ? way + "\nheld" : way, label);
      if (is_new) text += fmt::format("  {} -> {} [label={}];\n", from, name, dot_string(i == 0 ? "" : step.edge));
      from = name;
    }
  }
  return text + "}\n";
}

}  // namespace heapcore

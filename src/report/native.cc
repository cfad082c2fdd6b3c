#include <fmt/format.h>

#include <algorithm>

#include "report/format.h"
#include "report/json_parts.h"
#include "report/native_answers.h"
#include "report/text_parts.h"

namespace heapcore {
namespace {

Json samples_json(const std::vector<NativeSample>& samples) {
  Json list = Json::array();
  for (const NativeSample& sample : samples)
    list.push_back({{"address", address_text(sample.address)}, {"text", text_or_null(sample.text)}});
  return list;
}

std::string sample_text(const std::vector<NativeSample>& samples) {
  if (samples.empty()) return "";
  const NativeSample& first = samples.front();
  return address_text(first.address) + (first.text.empty() ? "" : "  " + printable(first.text));
}

// One size, or from the smallest to the largest.
std::string size_text(const NativeCluster& cluster) {
  if (cluster.smallest_bytes == cluster.largest_bytes) return count_text(cluster.smallest_bytes);
  return fmt::format("{} to {}", count_text(cluster.smallest_bytes), count_text(cluster.largest_bytes));
}

std::size_t shown_of(std::size_t rows, const TextStyle& style) {
  return style.limit == 0 ? rows : std::min(rows, style.limit);
}

std::string more_text(std::uint64_t all, std::size_t shown) {
  return all <= shown ? "" : fmt::format("  ({} more)\n", count_text(all - shown));
}

std::string classes_text(const NativeBlocks& native, const TextStyle& style) {
  if (native.classes.empty()) return "";
  TextTable table({{"bytes", Align::kRight},
                   {"count", Align::kRight},
                   {"no Python object's", Align::kRight},
                   {"such as", Align::kLeft},
                   {"C++ class", Align::kLeft}});
  const std::size_t shown = shown_of(native.classes.size(), style);
  for (std::size_t i = 0; i < shown; ++i) {
    const NativeClass& row = native.classes[i];
    table.add({bytes_text(row.chunks.bytes), count_text(row.chunks.count), count_text(row.native.count),
               sample_text(row.samples), printable(row.name + " (" + row.module + ")")});
  }
  return table.text("  ") + more_text(native.classes_count, shown);
}

std::string clusters_text(const NativeBlocks& native, const TextStyle& style) {
  if (native.clusters.empty()) return "";
  TextTable table({{"bytes", Align::kRight},
                   {"count", Align::kRight},
                   {"chunk bytes", Align::kRight},
                   {"content", Align::kLeft},
                   {"such as", Align::kLeft},
                   {"held by", Align::kLeft}});
  const std::size_t shown = shown_of(native.clusters.size(), style);
  for (std::size_t i = 0; i < shown; ++i) {
    const NativeCluster& row = native.clusters[i];
    std::string held_by = row.held_by.empty() ? "nothing" : printable(row.held_by);
    if (!row.first_word.empty()) held_by += "; begins with an address in " + printable(row.first_word);
    table.add({bytes_text(row.chunks.bytes), count_text(row.chunks.count), size_text(row),
               std::string(content_name(row.content)), sample_text(row.samples), held_by});
  }
  return table.text("  ") + more_text(native.clusters_count, shown);
}

}  // namespace

Json owners_json(const MallocOwners& owners) {
  Json list = Json::array();
  for (const MallocOwner& row : owners.owners)
    list.push_back({{"owner", row.owner}, {"count", row.chunks.count}, {"bytes", row.chunks.bytes}});
  return {{"owners", std::move(list)}, {"unowned", count_bytes(owners.unowned)}, {"total", count_bytes(owners.total)}};
}

Json native_json(const NativeBlocks& native) {
  Json classes = Json::array();
  for (const NativeClass& row : native.classes) {
    classes.push_back({{"name", row.name},
                       {"module", row.module},
                       {"count", row.chunks.count},
                       {"bytes", row.chunks.bytes},
                       {"unowned", count_bytes(row.native)},
                       {"samples", samples_json(row.samples)}});
  }
  Json clusters = Json::array();
  for (const NativeCluster& row : native.clusters) {
    clusters.push_back({{"size_from", row.smallest_bytes},
                        {"size_to", row.largest_bytes},
                        {"first_word", text_or_null(row.first_word)},
                        {"content", content_name(row.content)},
                        {"held_by", text_or_null(row.held_by)},
                        {"count", row.chunks.count},
                        {"bytes", row.chunks.bytes},
                        {"samples", samples_json(row.samples)}});
  }
  return {{"total", count_bytes(native.total)},
          {"classes", std::move(classes)},
          {"classes_count", native.classes_count},
          {"clusters", std::move(clusters)},
          {"clusters_count", native.clusters_count}};
}

std::string native_text(const NativeBlocks& native, const TextStyle& style) {
  if (native.classes.empty() && native.clusters.empty()) return "";
  std::string text = heading("Native memory: malloc's chunks that no Python object owns", style);
  text += fmt::format("  {} in {}\n", bytes_text(native.total.bytes), counted(native.total.count, "chunk"));
  const std::string classes = classes_text(native, style);
  return text + classes + (classes.empty() ? "" : "\n") + clusters_text(native, style);
}

Json unowned_json(const MallocOwners& owners, const NativeBlocks& native) {
  Json answer = native_json(native);
  answer["owners"] = owners_json(owners);
  return answer;
}

std::string unowned_text(const MallocOwners& owners, const NativeBlocks& native, const TextStyle& style) {
  TextTable table({{"bytes", Align::kRight},
                   {"share", Align::kRight},
                   {"chunks", Align::kRight},
                   {"whose chunks in use are", Align::kLeft}});
  const auto add = [&](const CountBytes& chunks, const std::string& owner) {
    table.add(
        {bytes_text(chunks.bytes), percent_text(chunks.bytes, owners.total.bytes), count_text(chunks.count), owner});
  };
  const std::size_t shown = shown_of(owners.owners.size(), style);
  for (std::size_t i = 0; i < shown; ++i) add(owners.owners[i].chunks, printable(owners.owners[i].owner));
  if (shown < owners.owners.size()) {
    CountBytes rest;
    for (std::size_t i = shown; i < owners.owners.size(); ++i) rest += owners.owners[i].chunks;
    add(rest, fmt::format("({} more)", owners.owners.size() - shown));
  }
  add(owners.unowned, "nobody that was found");
  add(owners.total, "total");
  return table.text("  ") + native_text(native, style);
}

}  // namespace heapcore

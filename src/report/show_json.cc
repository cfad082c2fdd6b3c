#include <fmt/format.h>

#include "report/format.h"
#include "report/json_parts.h"
#include "report/malloc_answers.h"
#include "report/show_answers.h"

namespace heapcore {
namespace {

Json address_or_null(Addr address) {
  return address == 0 ? Json(nullptr) : Json(address_text(address));
}

Json named_parts(const std::vector<ValuePart>& parts) {
  Json list = Json::array();
  for (const ValuePart& part : parts) {
    list.push_back({{"name", part.name}, {"value", part.text}, {"address", address_or_null(part.address)}});
  }
  return list;
}

Json item_parts(const Value& value) {
  Json list = Json::array();
  for (const ValuePart& part : value.items) {
    Json item;
    if (value.is_mapping) {
      item["key"] = part.name;
      item["key_address"] = address_or_null(part.key);
    }
    item["value"] = part.text;
    item["address"] = address_or_null(part.address);
    list.push_back(std::move(item));
  }
  return list;
}

Json mapping_json(const Mapping& mapping) {
  return {{"start", address_text(mapping.start)},
          {"end", address_text(mapping.end)},
          {"permissions", permissions_text(mapping)},
          {"path", text_or_null(mapping.path)}};
}

Json block_json(const BlockPlace& block) {
  return {{"allocator", block.allocator},        {"arena", address_text(block.arena)},
          {"pool", address_or_null(block.pool)}, {"address", address_or_null(block.address)},
          {"bytes", block.block_bytes},          {"state", block_state_name(block.state)}};
}

Json object_json(const SeenObject& object, Addr asked) {
  const Value& value = object.value;
  Json entry;
  entry["address"] = address_text(object.address);
  entry["offset"] = static_cast<std::int64_t>(asked - object.address);
  entry["type"] = object.type;
  entry["type_address"] = address_text(object.type_address);
  entry["kind"] = kind_name(object.kind);
  entry["refcount"] = object.immortal ? Json(nullptr) : Json(object.refcount);
  entry["immortal"] = object.immortal;
  entry["tracked"] = object.tracked;
  entry["bytes"] = object.bytes;
  entry["value"] = value.text;
  entry["length"] = value.length ? Json(*value.length) : Json(nullptr);
  entry["fields"] = named_parts(value.fields);
  entry["attributes"] = named_parts(value.attributes);
  entry["locals"] = named_parts(value.locals);
  entry["items"] = item_parts(value);
  entry["pointers"] = named_parts(value.pointers);
  return entry;
}

}  // namespace

std::string permissions_text(const Mapping& mapping) {
  return fmt::format("{}{}{}{}", mapping.readable ? 'r' : '-', mapping.writable ? 'w' : '-',
                     mapping.executable ? 'x' : '-', mapping.shared ? 's' : 'p');
}

Json show_json(const Process& process, const std::vector<Sight>& sights) {
  Json list = Json::array();
  for (const Sight& sight : sights) {
    Json entry;
    entry["address"] = address_text(sight.address);
    entry["mapping"] = sight.mapping == nullptr ? Json(nullptr) : mapping_json(*sight.mapping);
    entry["module"] = sight.module == nullptr ? Json(nullptr)
                                              : Json({{"path", sight.module->path},
                                                      {"offset", sight.address - sight.module->load_bias},
                                                      {"symbol", text_or_null(sight.symbol)}});
    entry["malloc"] = sight.chunk ? place_json(*process.heap(), *sight.chunk) : Json(nullptr);
    entry["block"] = sight.block ? block_json(*sight.block) : Json(nullptr);
    entry["object"] = sight.object ? object_json(*sight.object, sight.address) : Json(nullptr);
    list.push_back(std::move(entry));
  }
  Json answer;
  answer["addresses"] = std::move(list);
  return answer;
}

}  // namespace heapcore

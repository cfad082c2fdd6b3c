#include <nlohmann/json.hpp>

#include "report/answers.h"
#include "report/format.h"
#include "report/json_parts.h"
#include "report/version.h"

namespace heapcore {
namespace {

Json target_json(const Process& process) {
  const TargetInfo& info = process.snapshot.info;
  Json target;
  target["kind"] = info.kind == TargetKind::kCore ? "core" : "pid";
  target["path"] = text_or_null(info.path);
  target["pid"] = info.pid;
  target["executable"] = text_or_null(info.executable);
  target["command"] = text_or_null(info.command);
  target["architecture"] = info.architecture;
  target["python"] = text_or_null(process.python.version);
  target["python_build"] = process.python.version.empty() ? Json(nullptr) : Json(build_text(process.python));
  const Heap* heap = process.heap();
  target["libc"] = heap == nullptr ? Json(nullptr) : Json(libc_text(*heap));
  target["malloc_replaced_by"] = text_or_null(process.malloc.other_allocator);
  target["signal"] = info.signal;
  target["threads"] = process.snapshot.threads.size();
  target["mapped_bytes"] = process.snapshot.mapped_bytes();
  if (info.kind == TargetKind::kProcess) target["pause_seconds"] = info.pause_seconds;
  return target;
}

// `incomplete`: the findings for which parts are missing or damaged; else the notes.
Json findings_json(const Findings& findings, bool incomplete) {
  Json list = Json::array();
  for (const Finding& finding : findings.kept()) {
    if (finding.incomplete != incomplete) continue;
    Json entry;
    entry["code"] = finding.code;
    entry["message"] = finding.detail;
    entry["address"] = finding.address == 0 ? Json(nullptr) : Json(address_text(finding.address));
    entry["room"] = room_name(finding.room);
    entry["seen"] = findings.count(finding.code);
    list.push_back(std::move(entry));
  }
  return list;
}

}  // namespace

Json document_head(const std::string& command, const Process& process) {
  Json document;
  document["schema"] = 1;
  document["heapcore"] = heapcore_version();
  document["command"] = command;
  document["target"] = target_json(process);
  document["warnings"] = findings_json(process.findings, true);
  document["notes"] = findings_json(process.findings, false);
  return document;
}

Json types_json(const TypeRows& types, std::size_t limit) {
  Json rows = Json::array();
  for (const TypeRow& row : types.rows) {
    if (limit != 0 && rows.size() == limit) break;
    Json entry;
    if (types.by == GroupBy::kSize) {
      entry["size_from"] = row.size_from;
      entry["size_to"] = row.size_to;
    } else {
      entry["module"] = row.module;
    }
    if (types.by == GroupBy::kType) {
      entry["name"] = row.name;
      entry["address"] = address_text(row.address);
    }
    entry["count"] = row.total.count;
    entry["bytes"] = row.total.bytes;
    rows.push_back(std::move(entry));
  }
  Json answer;
  answer["by"] = types.by == GroupBy::kType ? "type" : types.by == GroupBy::kModule ? "module" : "size";
  answer["tracked"] = types.tracked_only;
  answer["reachable"] = types.reachable_only;
  answer["python_allocator"] = text_or_null(types.python_allocator);
  answer["types"] = std::move(rows);
  answer["selected"] = types.selected ? count_bytes(*types.selected) : Json(nullptr);
  answer["total"] = count_bytes(types.total);
  return answer;
}

Json pymalloc_json(const ObmallocUse& use) {
  Json answer;
  answer["allocator"] = text_or_null(use.allocator);
  answer["located_by"] = text_or_null(use.located_by);
  answer["arena_bytes"] = use.arena_bytes;
  answer["pool_bytes"] = use.pool_bytes;
  answer["arenas"] = Json::array();
  for (const ArenaUse& arena : use.arenas) {
    answer["arenas"].push_back({{"address", address_text(arena.arena.address)},
                                {"pools", arena.pools},
                                {"free_pools", arena.free_pools},
                                {"blocks_in_use", arena.blocks_in_use},
                                {"bytes_in_use", arena.bytes_in_use}});
  }
  answer["classes"] = Json::array();
  for (const PoolClass& size_class : use.classes) {
    answer["classes"].push_back({{"block_bytes", size_class.block_bytes},
                                 {"pools", size_class.pools},
                                 {"blocks_in_use", size_class.blocks_in_use},
                                 {"blocks_free", size_class.blocks_free}});
  }
  answer["total"] = {{"arenas", use.arenas.size()},
                     {"bytes", use.bytes},
                     {"pools", use.pools},
                     {"free_pools", use.free_pools},
                     {"blocks_in_use", use.blocks_in_use},
                     {"bytes_in_use", use.bytes_in_use},
                     {"bytes_free", use.bytes_free},
                     {"bytes_overhead", use.bytes_overhead},
                     {"bytes_lost", use.bytes_lost}};
  return answer;
}

Json ledger_json(const Ledger& ledger) {
  Json rows = Json::array();
  for (const LedgerRow& row : ledger.rows) {
    Json entry = {{"category", row.category},
                  {"detail", row.detail},
                  {"bytes", row.bytes},
                  {"not_dumped_bytes", row.not_dumped_bytes}};
    for (const LedgerType& type : row.types) entry["types"].push_back({{"type", type.type}, {"bytes", type.bytes}});
    rows.push_back(std::move(entry));
  }
  Json answer;
  answer["ledger"] = std::move(rows);
  answer["total"] = {{"mapped_bytes", ledger.mapped_bytes}};
  if (!ledger.resident.empty()) {
    Json resident = Json::array();
    for (const ResidentRow& row : ledger.resident)
      resident.push_back({{"what", row.what},
                          {"mapped_bytes", row.mapped_bytes},
                          {"resident_bytes", row.resident_bytes},
                          {"swapped_bytes", row.swapped_bytes}});
    answer["resident"] = std::move(resident);
    answer["total"]["rss_bytes"] = ledger.rss_bytes;
  }
  return answer;
}

}  // namespace heapcore

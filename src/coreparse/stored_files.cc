#include "coreparse/stored_files.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

namespace heapcore {
namespace {

constexpr std::uint64_t kFileLimitBytes = std::uint64_t{64} << 20;
constexpr std::uint64_t kTotalLimitBytes = std::uint64_t{512} << 20;

bool is_constant_part(const Mapping& mapping) {
  return mapping.is_file() && mapping.readable && !mapping.writable && !mapping.shared;
}

}  // namespace

std::vector<bool> files_to_store(const std::vector<Mapping>& mappings) {
  std::set<std::string_view> programs;
  std::map<std::string_view, std::uint64_t> bytes_of;
  for (const Mapping& mapping : mappings) {
    if (is_constant_part(mapping)) bytes_of[mapping.path] += mapping.size_bytes();
    if (is_constant_part(mapping) && mapping.executable) programs.insert(mapping.path);
  }
  std::vector<std::pair<std::uint64_t, std::string_view>> by_size;
  for (const std::string_view path : programs) by_size.emplace_back(bytes_of[path], path);
  std::sort(by_size.begin(), by_size.end());
  std::set<std::string_view> stored;
  std::uint64_t left_bytes = kTotalLimitBytes;
  for (const auto& [bytes, path] : by_size) {
    if (bytes > kFileLimitBytes || bytes > left_bytes) break;
    left_bytes -= bytes;
    stored.insert(path);
  }
  std::vector<bool> result;
  for (const Mapping& mapping : mappings) {
    result.push_back(is_constant_part(mapping) && stored.contains(mapping.path));
  }
  return result;
}

}  // namespace heapcore

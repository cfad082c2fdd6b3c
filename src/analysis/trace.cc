#include "analysis/trace.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <tuple>

#include "analysis/retained_sums.h"

namespace heapcore {
namespace {

constexpr std::uint32_t kNoSite = ~std::uint32_t{0};
constexpr std::size_t kMostTypes = 5;  // named of a site

using Places = std::vector<TracePlace>;

// tracemalloc compares the names of compiled files as those of their sources.
std::string source_name(const std::string& file) {
  return file.ends_with(".pyc") ? file.substr(0, file.size() - 1) : file;
}

class Filter {
 public:
  Filter(const TraceTables& tables, const TraceOptions& options) : tables_(tables), options_(options) {
    for (const TraceFilter& filter : options.filters) {
      const std::string pattern = source_name(filter.pattern);
      std::vector<bool>& matches = matches_.emplace_back();
      for (const std::string& file : tables.files)
        matches.push_back(::fnmatch(pattern.c_str(), source_name(file).c_str(), 0) == 0);
    }
  }

  bool passes(const Traceback& traceback) const {
    bool asked = false;
    bool included = false;
    for (std::size_t i = 0; i < options_.filters.size(); ++i) {
      const bool matches = matches_any(i, traceback);
      if (!options_.filters[i].inclusive && matches) return false;
      asked = asked || options_.filters[i].inclusive;
      included = included || (options_.filters[i].inclusive && matches);
    }
    return included || !asked;
  }

 private:
  bool matches_any(std::size_t filter, const Traceback& traceback) const {
    const std::uint32_t count = options_.all_frames ? traceback.count : 1;
    const std::optional<std::uint32_t>& line = options_.filters[filter].line;
    for (std::uint32_t i = 0; i < count; ++i) {
      const TraceFrame& frame = tables_.frames[traceback.first + i];
      if (matches_[filter][frame.file] && (!line || *line == frame.line)) return true;
    }
    return false;
  }

  const TraceTables& tables_;
  const TraceOptions& options_;
  std::vector<std::vector<bool>> matches_;  // of each filter, by file
};

// Which site each trace is of.
class Sites {
 public:
  Sites(const TraceTables& tables, const TraceOptions& options) : tables_(tables), options_(options) {
    const Filter filter(tables, options);
    std::map<std::vector<TraceFrame>, std::uint32_t> numbers;
    for (const Traceback& traceback : tables.tracebacks) {
      if (!filter.passes(traceback)) {
        of_traceback_.push_back(kNoSite);
        continue;
      }
      const auto [entry, is_new] = numbers.try_emplace(key(traceback), static_cast<std::uint32_t>(keys_.size()));
      if (is_new) keys_.push_back(entry->first);
      of_traceback_.push_back(entry->second);
    }
    totals_.resize(keys_.size());
    for (const Trace& trace : tables.traces) {
      const std::uint32_t site = of(trace);
      if (site == kNoSite) continue;
      totals_[site].add(trace.bytes);
      matched_.add(trace.bytes);
    }
  }

  std::size_t size() const { return keys_.size(); }
  const CountBytes& total(std::uint32_t site) const { return totals_[site]; }
  const CountBytes& matched() const { return matched_; }

  std::uint32_t of(const Trace& trace) const {
    if (options_.domain && *options_.domain != trace.domain) return kNoSite;
    return of_traceback_[trace.traceback];
  }

  Places places(std::uint32_t site) const {
    Places places;
    for (const TraceFrame& frame : keys_[site]) places.push_back({tables_.files[frame.file], frame.line});
    return places;
  }

 private:
  std::vector<TraceFrame> key(const Traceback& traceback) const {
    const auto first = tables_.frames.begin() + static_cast<std::ptrdiff_t>(traceback.first);
    if (options_.by == TraceBy::kTraceback) return {first, first + traceback.count};
    return {{first->file, options_.by == TraceBy::kFile ? 0 : first->line}};
  }

  const TraceTables& tables_;
  const TraceOptions& options_;
  std::vector<std::vector<TraceFrame>> keys_;
  std::vector<std::uint32_t> of_traceback_;
  std::vector<CountBytes> totals_;
  CountBytes matched_;
};

// What of the heap lies where a trace says.
class Finder {
 public:
  explicit Finder(const HeapGraph& graph) : graph_(graph) {
    std::set<std::uint32_t> headers;
    for (const TypeBrief& brief : graph.briefs) headers.insert(brief.header_bytes);
    headers_.assign(headers.begin(), headers.end());
  }

  NodeId node(Addr block) const {
    for (const std::uint32_t header_bytes : headers_) {
      const NodeId object = graph_.blocks.find_object(block + header_bytes);
      if (object != kNoBlock && graph_.view(object).type.header_bytes == header_bytes) return object;
    }
    return graph_.blocks.find_raw(block);
  }

 private:
  const HeapGraph& graph_;
  std::vector<std::uint32_t> headers_;
};

double growth(const TraceSite& site) {
  return static_cast<double>(site.total.bytes) - static_cast<double>(site.older.bytes);
}

// What lies at the sites that are shown, and who holds it.
class Joiner {
 public:
  Joiner(const Process& process, const Holders& holders, const TraceTables& tables, const Sites& sites,
         const TraceOptions& options, Findings& findings)
      : holders_(holders),
        graph_(holders.graph),
        tables_(tables),
        sites_(sites),
        paths_(process, holders.graph, options.values, findings) {}

  // `shown`: of each row, its site; kNoSite of one that is only in the older target.
  void fill(const std::vector<std::uint32_t>& shown, std::vector<TraceSite>& rows) {
    std::vector<std::uint32_t> row_of(sites_.size(), kNoSite);
    const auto none = static_cast<std::uint32_t>(shown.size());
    for (std::uint32_t i = 0; i < none; ++i) {
      if (shown[i] != kNoSite) row_of[shown[i]] = i;
    }
    Column<std::uint32_t> row_of_node(graph_.blocks.size(), none);
    std::vector<NodeId> largest(shown.size(), kNoNode);
    std::vector<std::map<std::string, CountBytes>> types(shown.size());
    const Finder finder(graph_);
    for (const Trace& trace : tables_.traces) {
      const std::uint32_t site = sites_.of(trace);
      const std::uint32_t row = site == kNoSite ? kNoSite : row_of[site];
      if (row == kNoSite) continue;
      const NodeId node = finder.node(trace.block);
      types[row][type_name(node)].add(trace.bytes);
      if (node == kNoNode) continue;
      row_of_node[node] = row;
      if (largest[row] == kNoNode || holders_.retained.bytes[node] > holders_.retained.bytes[largest[row]])
        largest[row] = node;
    }
    const auto group_of = [&](NodeId node, std::size_t /*way*/) { return row_of_node[node]; };
    const auto sums = TreeSummer<1, decltype(group_of)>(graph_.blocks, holders_.retained,
                                                        std::array<std::size_t, 1>{shown.size() + 1}, group_of)
                          .run();
    for (std::size_t i = 0; i < shown.size(); ++i) {
      rows[i].retained_bytes = sums[0][i].retained_bytes;
      rows[i].types = sorted(types[i]);
      if (largest[i] == kNoNode) continue;
      rows[i].largest = graph_.blocks.address(largest[i]);
      rows[i].path = paths_.path(largest[i]).text();
    }
  }

 private:
  std::string type_name(NodeId node) {
    if (node == kNoNode) return "not found";
    if (graph_.blocks.is_object(node)) return graph_.type_name(node);
    const NodeId holder = paths_.parent(node);
    const bool is_held = holder != kNoNode && graph_.blocks.is_object(holder);
    return is_held ? "buffer of " + graph_.type_name(holder) : "raw block";
  }

  static std::vector<TraceType> sorted(const std::map<std::string, CountBytes>& types) {
    std::vector<TraceType> rows;
    for (const auto& [type, total] : types) rows.push_back({type, total});
    std::stable_sort(rows.begin(), rows.end(),
                     [](const TraceType& a, const TraceType& b) { return a.total.bytes > b.total.bytes; });
    if (rows.size() > kMostTypes) rows.resize(kMostTypes);
    return rows;
  }

  const Holders& holders_;
  const HeapGraph& graph_;
  const TraceTables& tables_;
  const Sites& sites_;
  HolderPaths paths_;
};

}  // namespace

OlderSites sum_sites(const TraceTables& tables, const TraceOptions& options) {
  const Sites sites(tables, options);
  OlderSites older;
  for (std::uint32_t site = 0; site < sites.size(); ++site) {
    if (sites.total(site).count != 0) older.sites.emplace_back(sites.places(site), sites.total(site));
  }
  return older;
}

TraceAnswer trace_answer(const Process& process, const Holders& holders, const TraceTables& tables,
                         const TraceOptions& options, const OlderSites* older, Findings& findings) {
  TraceAnswer answer;
  answer.found = true;
  answer.tracing = tables.tracing;
  answer.most_frames = tables.most_frames;
  answer.peak_bytes = tables.peak_bytes;
  answer.located_by = tables.located_by;
  answer.compared = older != nullptr;
  for (const Trace& trace : tables.traces) answer.traced.add(trace.bytes);
  const Sites sites(tables, options);
  answer.matched = sites.matched();
  std::map<Places, CountBytes> before;
  if (older != nullptr) before.insert(older->sites.begin(), older->sites.end());
  for (const auto& [places, total] : before) answer.older += total;
  struct Row {
    std::uint32_t site;
    TraceSite row;
  };
  std::vector<Row> rows;
  for (std::uint32_t site = 0; site < sites.size(); ++site) {
    if (sites.total(site).count == 0) continue;
    Row row{site, {}};
    row.row.frames = sites.places(site);
    row.row.total = sites.total(site);
    if (const auto found = before.find(row.row.frames); found != before.end()) {
      row.row.older = found->second;
      before.erase(found);
    }
    rows.push_back(std::move(row));
  }
  for (const auto& [places, total] : before) {
    Row row{kNoSite, {}};
    row.row.frames = places;
    row.row.older = total;
    rows.push_back(std::move(row));
  }
  std::sort(rows.begin(), rows.end(), [&](const Row& a, const Row& b) {
    if (answer.compared && growth(a.row) != growth(b.row)) return growth(a.row) > growth(b.row);
    return std::tie(b.row.total.bytes, b.row.total.count, a.row.frames) <
           std::tie(a.row.total.bytes, a.row.total.count, b.row.frames);
  });
  answer.sites_count = rows.size();
  if (options.limit != 0 && rows.size() > options.limit) rows.resize(options.limit);
  std::vector<std::uint32_t> shown;
  for (Row& row : rows) {
    shown.push_back(row.site);
    answer.sites.push_back(std::move(row.row));
  }
  Joiner(process, holders, tables, sites, options, findings).fill(shown, answer.sites);
  return answer;
}

}  // namespace heapcore

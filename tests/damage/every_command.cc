#include "every_command.h"

#include <nlohmann/json.hpp>

#include "analysis/diff.h"
#include "analysis/incident.h"
#include "analysis/merged_paths.h"
#include "analysis/reachable.h"
#include "analysis/refs.h"
#include "analysis/sight.h"
#include "analysis/type_rows.h"
#include "analysis/verify.h"
#include "glibc_heap/bins.h"
#include "glibc_heap/census.h"
#include "glibc_heap/places.h"
#include "report/answers.h"
#include "report/diff_answers.h"
#include "report/holder_answers.h"
#include "report/layout_answers.h"
#include "report/malloc_answers.h"
#include "report/refs_answers.h"
#include "report/report_answers.h"
#include "report/show_answers.h"
#include "report/space_answers.h"

namespace heapcore::damage {
namespace {

using Json = nlohmann::ordered_json;

class Run {
 public:
  Run(Process& process, std::span<const Addr> addresses, Process* older,
      const std::function<void(const char*)>& entering)
      : process_(process), addresses_(addresses), older_(older), entering_(entering) {}

  Answers all() {
    report();
    types();
    malloc();
    entering_("show");
    show();
    entering_("pymalloc");
    if (incident_.obmalloc) render(pymalloc_json(*incident_.obmalloc), pymalloc_text(*incident_.obmalloc, style_));
    entering_("ledger");
    render(ledger_json(incident_.ledger), ledger_text(incident_.ledger, style_));
    entering_("map");
    for (const MapOrder order : {MapOrder::kLive, MapOrder::kAddress})
      render(map_json(incident_.map, {order, 100}, 0), map_text(incident_.map, {order, 100}, style_));
    if (incident_.holders) about_graph();
    entering_("verify");
    verify();
    entering_("diff");
    diff();
    return std::move(answers_);
  }

 private:
  void render(const Json& json, const std::string& text) {
    static_cast<void>(json.dump(2, ' ', false, Json::error_handler_t::replace));
    static_cast<void>(text);
  }

  void report() {
    entering_("report");
    IncidentOptions how;
    how.values = true;
    how.ownership = true;
    incident_ = investigate(process_, how, progress_, timings_);
    process_.findings.sort();
    entering_("report, rendered");
    render(report_json(process_, incident_, 0), report_text(process_, incident_, style_));
    static_cast<void>(report_html(process_, incident_));
    std::uint64_t labelled = 0;
    for (const LedgerRow& row : incident_.ledger.rows) {
      labelled += row.bytes;
      if (row.not_dumped_bytes > row.bytes) answers_.wrong = "a row of the ledger misses more than it has";
    }
    if (labelled != process_.snapshot.mapped_bytes()) answers_.wrong = "the ledger is not what is mapped";
  }

  void types() {
    entering_("types");
    const Census* census = incident_.census();
    if (census == nullptr) return;
    for (const GroupBy by : {GroupBy::kType, GroupBy::kModule, GroupBy::kSize}) {
      const TypeRows rows = type_rows(*census, by, SortBy::kBytes, false);
      render(types_json(rows, 0), types_text(rows, style_));
      if (by != GroupBy::kType) continue;
      for (const TypeRow& row : rows.rows) answers_.types[row.module + "." + row.name] += row.total.count;
    }
    entering_("types --reachable");
    Findings findings;
    const TypeRows rows =
        type_rows(take_census_of_reachable(process_, progress_, findings), GroupBy::kType, SortBy::kBytes, false);
    render(types_json(rows, 0), types_text(rows, style_));
  }

  void malloc() {
    entering_("malloc");
    if (process_.heap() == nullptr) return;
    Heap& heap = *process_.heap();
    Findings findings;
    count_chunks(process_.snapshot, heap, findings);
    check_bins(process_.snapshot, heap, findings);
    render(malloc_json(heap), malloc_text(heap, style_));
    const std::vector<SizeClass> classes = size_classes(process_.snapshot, heap, findings);
    render(bins_json(heap, classes), bins_text(heap, classes));
    const std::vector<SizeClass> sizes = sizes_in_use(heap, classes);
    render(sizes_json(sizes), sizes_text(sizes));
    entering_("malloc ADDR");
    std::vector<Place> places;
    for (const Addr address : addresses_) places.push_back(place_of(process_.snapshot, heap, address));
    render(places_json(heap, places), places_text(heap, places));
    entering_("malloc --chunks");
    Reader reader(process_.snapshot.space);
    std::string out;
    for (const Region& region : heap.regions) {
      for_each_chunk(heap, reader, region, findings, [&](const Chunk& chunk) {
        out.clear();
        append_chunk_text(chunk, out);
      });
    }
  }

  void show() {
    Observer observer(process_, {true, 20});
    std::vector<Sight> sights;
    for (const Addr address : addresses_) sights.push_back(observer.look(address));
    render(show_json(process_, sights), show_text(process_, sights, style_));
  }

  void about_graph() {
    const Holders& holders = *incident_.holders;
    const HeapGraph& graph = holders.graph;
    entering_("refs");
    std::vector<ReferencesOf> references =
        find_references(process_, {addresses_.begin(), addresses_.end()}, {20, true}, progress_);
    add_retained(holders, references);
    render(refs_json(references), refs_text(references, style_));
    if (older_ != nullptr) {
      entering_("paths");
      show_paths(graph, paths_of_types(process_, graph, "*", {20, true}, process_.findings));
    }
    for (const Addr address : addresses_) {
      const NodeId node = node_at(graph.blocks, address);
      if (node == kNoNode) continue;
      entering_("paths ADDR");
      show_paths(graph, paths_of_node(process_, graph, node, {20, true}, process_.findings));
      entering_("retained ADDR");
      RetainedOptions how;
      how.of = node;
      const RetainedAnswer answer = retained_answer(process_, holders, how, process_.findings);
      render(retained_json(answer), retained_text(answer, style_));
    }
    entering_("retained, cycles, threads, audit, pins and waste, rendered");
    render(retained_json(incident_.retained), retained_text(incident_.retained, style_));
    render(cycles_json(incident_.cycles), cycles_text(incident_.cycles, style_));
    render(threads_json(incident_.threads), threads_text(incident_.threads, style_));
    render(audit_json(incident_.audit), audit_text(incident_.audit, style_));
    if (incident_.pins) render(pins_json(*incident_.pins), pins_text(*incident_.pins, style_));
    if (incident_.waste) render(waste_json(*incident_.waste), waste_text(*incident_.waste, style_));
  }

  void show_paths(const HeapGraph& graph, const PathsAnswer& answer) {
    render(paths_json(answer, graph), paths_text(answer, style_));
    static_cast<void>(paths_dot(answer, graph));
  }

  void verify() {
    const Verification verification = verify_process(process_, progress_, timings_);
    render(verify_json(verification, process_), verify_text(verification, process_, style_));
    const std::vector<LayoutRow> rows = layout_rows(process_);
    render(layouts_json(rows), layouts_text(rows, style_));
    static_cast<void>(warnings_text(process_.findings));
    render(document_head("verify", process_), "");
  }

  void diff() {
    if (older_ == nullptr || process_.runtime() == nullptr || older_->runtime() == nullptr) return;
    const Diff diff = compare(*older_, process_, {20, true}, progress_, timings_);
    render(diff_json(diff, *older_), diff_text(diff, *older_, style_));
  }

  Process& process_;
  std::span<const Addr> addresses_;
  Process* older_;
  const std::function<void(const char*)>& entering_;
  Progress& progress_ = Progress::none();
  Timings timings_;
  TextStyle style_;
  Incident incident_;
  Answers answers_;
};

}  // namespace

Answers run_every_command(Process& process, std::span<const Addr> addresses, Process* older,
                          const std::function<void(const char*)>& entering) {
  return Run(process, addresses, older, entering).all();
}

}  // namespace heapcore::damage

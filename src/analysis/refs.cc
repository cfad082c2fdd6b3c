#include "analysis/refs.h"

#include <tbb/blocked_range.h>
#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <unordered_set>

#include "analysis/block_table.h"
#include "analysis/census.h"
#include "pyobj/objects.h"

namespace heapcore {
namespace {

// Of one object that a sweep meets; `target` is the index of what was asked for.
struct Met {
  std::size_t target = 0;
  Addr from = 0;
  RefKind kind = RefKind::kVisited;
  EdgeName name;
};

struct Worker {
  Worker(const Process& process, TypeTable& types)
      : objects(process.snapshot, process.runtime()->traits, types),
        references(process.snapshot, *process.runtime(), types) {}

  ObjectReader objects;
  ReferenceReader references;
  std::vector<Met> met;
  std::unordered_set<Addr> elsewhere;  // visited or owned, and not in the table
};

class RefsFinder {
 public:
  RefsFinder(Process& process, const RefsOptions& options, Progress& progress)
      : process_(process),
        options_(options),
        progress_(progress),
        census_(take_census(process, progress, process.findings, &blocks_)),
        workers_([this] { return Worker(process_, *census_.types); }) {}

  std::vector<ReferencesOf> run(const std::vector<Addr>& addresses) {
    for (const Addr asked : addresses) {
      ReferencesOf& answer = answers_.emplace_back();
      answer.asked = asked;
      answer.address = holder(asked);
      if (answer.address != 0) targets_.emplace_back(answer.address, answers_.size() - 1);
    }
    std::sort(targets_.begin(), targets_.end());
    sweep();
    for (ReferencesOf& answer : answers_) describe(answer);
    collect();
    for (const Worker& worker : workers_) process_.findings.merge(worker.references.findings());
    return std::move(answers_);
  }

 private:
  // The object or block that begins at an address, or that it lies in; else, an object in static memory.
  Addr holder(Addr asked) {
    if (blocks_.find(asked) != kNoBlock) return asked;
    for (const auto& [first, last] : {std::pair(BlockId{0}, blocks_.objects()), {blocks_.objects(), blocks_.size()}}) {
      BlockId low = first;
      BlockId high = last;
      while (low < high) {
        const BlockId middle = low + (high - low) / 2;
        if (blocks_.address(middle) <= asked) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      if (low != first && asked - blocks_.address(low - 1) < blocks_.bytes(low - 1)) return blocks_.address(low - 1);
    }
    ObjectView object;
    return workers_.local().objects.at(asked, object) ? asked : 0;
  }

  void sweep() {
    progress_.begin("link", blocks_.objects());
    tbb::parallel_for(tbb::blocked_range<BlockId>(0, blocks_.objects(), kGrain), [this](const auto& range) {
      Worker& worker = workers_.local();
      for (BlockId id = range.begin(); id != range.end(); ++id) follow(blocks_.address(id), worker);
      progress_.advance(range.size());
    });
    // Objects in static data, which only references lead to.
    std::unordered_set<Addr> seen;
    std::vector<Addr> waiting;
    const auto take_new = [&] {
      for (Worker& worker : workers_) {
        for (const Addr address : worker.elsewhere) {
          if (seen.insert(address).second) waiting.push_back(address);
        }
        worker.elsewhere.clear();
      }
    };
    for (take_new(); !waiting.empty(); take_new()) {
      for (const Addr address : waiting) follow(address, workers_.local());
      waiting.clear();
    }
    progress_.end();
  }

  void follow(Addr address, Worker& worker) {
    ObjectView object;
    if (!worker.objects.at(address, object)) return;
    const auto visit = [&](Addr target, RefKind kind, const EdgeName& name) {
      const auto wanted = std::lower_bound(targets_.begin(), targets_.end(), std::pair(target, std::size_t{0}));
      for (auto at = wanted; at != targets_.end() && at->first == target; ++at)
        worker.met.push_back({at->second, address, kind, name});
      if ((kind == RefKind::kVisited || kind == RefKind::kOwned) && blocks_.find_object(target) == kNoBlock)
        worker.elsewhere.insert(target);
    };
    worker.references.for_each(object, visit, blocks_.end_of(object));
  }

  // The object or block that an answer is about, and what it refers to.
  void describe(ReferencesOf& answer) {
    if (answer.address == 0) return;
    Reference self;
    fill(answer.address, self);
    answer.type = self.type;
    answer.bytes = self.bytes;
    ObjectView object;
    Worker& worker = workers_.local();
    if (blocks_.find(answer.address) >= blocks_.objects() && blocks_.find(answer.address) != kNoBlock) return;
    if (!worker.objects.at(answer.address, object)) return;
    std::vector<Met> out;
    const auto visit = [&](Addr target, RefKind kind, const EdgeName& name) {
      if (kind == RefKind::kConservative && !is_known(target)) return;
      ++answer.out_count;
      if (options_.limit == 0 || out.size() < options_.limit) out.push_back({0, target, kind, name});
    };
    worker.references.for_each(object, visit, blocks_.end_of(object));
    for (const Met& met : out) answer.out.push_back(make(met));
  }

  // What a conservative word may mean: a block, or an object in static data.
  bool is_known(Addr target) {
    ObjectView object;
    return blocks_.find(target) != kNoBlock ||
           (process_.snapshot.module_at(target) != nullptr && workers_.local().objects.at(target, object));
  }

  void collect() {
    std::vector<Met> all;
    for (const Worker& worker : workers_) all.insert(all.end(), worker.met.begin(), worker.met.end());
    std::stable_sort(all.begin(), all.end(), [](const Met& a, const Met& b) {
      return std::tuple(a.target, a.kind, a.from) < std::tuple(b.target, b.kind, b.from);
    });
    for (const Met& met : all) {
      ReferencesOf& answer = answers_[met.target];
      ++answer.in_count;
      if (options_.limit == 0 || answer.in.size() < options_.limit) answer.in.push_back(make(met));
    }
  }

  Reference make(const Met& met) {
    Reference reference;
    reference.address = met.from;
    reference.kind = met.kind;
    const ShownKeys shown = options_.values ? ShownKeys::kAll : ShownKeys::kInterned;
    reference.edge = edge_text(workers_.local().objects.reader(), process_.runtime()->traits, met.name, shown);
    fill(met.from, reference);
    return reference;
  }

  // Type and size of what is at an address.
  void fill(Addr address, Reference& reference) {
    const BlockId id = blocks_.find(address);
    if (id != kNoBlock && !blocks_.is_object(id)) {
      reference.bytes = blocks_.bytes(id);
      return;
    }
    ObjectReader& objects = workers_.local().objects;
    ObjectView object;
    if (reference.kind == RefKind::kBuffer || !objects.at(address, object)) return;
    const TypeInfo& type = census_.types->shared_info(object.type.id);
    reference.type = type.module.empty() ? type.name : type.module + "." + type.name;
    reference.bytes = objects.size_of(object, objects.reader().span_to_end(address));
  }

  static constexpr std::size_t kGrain = 4096;

  Process& process_;
  const RefsOptions& options_;
  Progress& progress_;
  BlockTable blocks_;
  Census census_;
  tbb::enumerable_thread_specific<Worker> workers_;
  std::vector<ReferencesOf> answers_;
  std::vector<std::pair<Addr, std::size_t>> targets_;  // sorted: an address, and which answer it is of
};

}  // namespace

std::vector<ReferencesOf> find_references(Process& process, const std::vector<Addr>& addresses,
                                          const RefsOptions& options, Progress& progress) {
  return RefsFinder(process, options, progress).run(addresses);
}

}  // namespace heapcore

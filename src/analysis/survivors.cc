#include "analysis/survivors.h"

#include <algorithm>
#include <map>

#include "pyobj/identity.h"
#include "pyobj/references.h"

namespace heapcore {
namespace {

constexpr int kMaxSweeps = 6;                 // what is undecided then has parts in parts in parts
constexpr std::size_t kMaxParts = 64;         // of an object, that are compared
constexpr std::size_t kMaxReferences = 1024;  // of the older, among which they are looked for

enum class Verdict : std::uint8_t { kGone, kSurvived, kOpen };

class Matcher {
 public:
  Matcher(const OlderSide& older, const Process& newer, const HeapGraph& graph, const CommonTypes& types)
      : traits_(newer.runtime()->traits),
        older_(older),
        before_(older.blocks),
        after_(graph.blocks),
        graph_(graph),
        types_(types),
        before_memory_(older.process.snapshot.space),
        after_memory_(newer.snapshot.space),
        before_references_(older.process.snapshot, *older.process.runtime(), older.types),
        after_references_(newer.snapshot, *newer.runtime(), *graph.census.types),
        verdicts_(before_.objects(), Verdict::kGone) {}

  Survivors run() {
    pair_up();
    for (int sweep = 0; sweep < kMaxSweeps && !open_.empty(); ++sweep) {
      std::erase_if(open_, [this](const Pair& pair) {
        const Verdict verdict = judge(pair);
        verdicts_[pair.older] = verdict;
        return verdict != Verdict::kOpen;
      });
    }
    // Objects that have only each other for parts: nothing speaks against them.
    for (const Pair& pair : open_) verdicts_[pair.older] = Verdict::kSurvived;
    Survivors result;
    result.survived.resize(after_.objects());
    result.newer_of.assign(before_.objects(), kNoBlock);
    for (BlockId id = 0; id < before_.objects(); ++id) {
      if (verdicts_[id] != Verdict::kSurvived) continue;
      result.newer_of[id] = after_.find_object(before_.address(id));
      result.survived[result.newer_of[id]] = true;
    }
    return result;
  }

 private:
  struct Pair {
    BlockId older;
    BlockId newer;
  };

  // Both are by address.
  void pair_up() {
    BlockId a = 0;
    BlockId b = 0;
    while (a < before_.objects() && b < after_.objects()) {
      if (before_.address(a) != after_.address(b)) {
        before_.address(a) < after_.address(b) ? ++a : ++b;
        continue;
      }
      const Pair pair{a++, b++};
      if (types_.of_older[before_.type(pair.older)] != types_.of_newer[after_.type(pair.newer)]) continue;
      const Kind kind = graph_.census.types->info(after_.type(pair.newer)).kind;
      const ValueMatch match = match_values(graph_.view(pair.newer), kind, traits_, before_memory_, after_memory_);
      if (match == ValueMatch::kEqual) verdicts_[pair.older] = Verdict::kSurvived;
      if (match != ValueMatch::kUntold) continue;
      verdicts_[pair.older] = Verdict::kOpen;
      open_.push_back(pair);
    }
  }

  // By the parts that the newer one alone holds, which the older one held too.
  Verdict judge(const Pair& pair) {
    parts_.clear();
    const auto take_part = [&](Addr target, RefKind kind, const EdgeName& name) {
      if (parts_.size() >= kMaxParts || !is_part(kind, name)) return;
      const BlockId part = after_.find_object(target);
      if (part != kNoBlock && graph_.in().row(part).size() == 1) parts_.push_back(target);
    };
    const ObjectView newer = graph_.view(pair.newer);
    after_references_.for_each(newer, take_part, after_.end_of(newer, pair.newer));
    if (parts_.empty()) return Verdict::kSurvived;
    bool had_any = false;
    bool open = false;
    bool same = false;
    std::size_t seen = 0;
    const auto compare = [&](Addr target, RefKind kind, const EdgeName& name) {
      if (same || ++seen > kMaxReferences || !is_part(kind, name)) return;
      had_any = true;
      if (std::find(parts_.begin(), parts_.end(), target) == parts_.end()) return;
      const BlockId part = before_.find_object(target);
      if (part == kNoBlock) return;
      same = verdicts_[part] == Verdict::kSurvived;
      open = open || verdicts_[part] == Verdict::kOpen;
    };
    const ObjectView older = view_of(before_, older_.briefs, pair.older);
    before_references_.for_each(older, compare, before_.end_of(older, pair.older));
    if (same || !had_any) return Verdict::kSurvived;
    return open ? Verdict::kOpen : Verdict::kGone;
  }

  // Keys of dicts are the program's names, and the same in all instances.
  static bool is_part(RefKind kind, const EdgeName& name) {
    return (kind == RefKind::kVisited || kind == RefKind::kOwned) && name.what != What::kDictKey;
  }

  const PyTraits& traits_;
  const OlderSide& older_;
  const BlockTable& before_;
  const BlockTable& after_;
  const HeapGraph& graph_;
  const CommonTypes& types_;
  Reader before_memory_;
  Reader after_memory_;
  ReferenceReader before_references_;
  ReferenceReader after_references_;
  std::vector<Verdict> verdicts_;  // by object of the older
  std::vector<Pair> open_;
  std::vector<Addr> parts_;
};

}  // namespace

CommonTypes::CommonTypes(const TypeTable& older, const TypeTable& newer) {
  std::map<std::pair<std::string, std::string>, std::size_t> numbers;
  for (const auto& [table, of] : {std::pair(&older, &of_older), {&newer, &of_newer}}) {
    for (TypeId id = 0; id < table->size(); ++id) {
      const TypeInfo& info = table->info(id);
      const auto [entry, inserted] = numbers.try_emplace({info.module, info.name}, names.size());
      if (inserted) names.push_back(entry->first);
      of->push_back(entry->second);
    }
  }
}

Survivors find_survivors(const OlderSide& older, const Process& newer, const HeapGraph& graph,
                         const CommonTypes& types) {
  return Matcher(older, newer, graph, types).run();
}

}  // namespace heapcore

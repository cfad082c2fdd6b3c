#include "analysis/survivors.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

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
  Matcher(const Process& older, const BlockTable& blocks, TypeTable& types, const Process& newer,
          const HeapGraph& graph)
      : traits_(newer.runtime()->traits),
        before_(blocks),
        after_(graph.blocks),
        before_types_(types),
        after_types_(*graph.census.types),
        graph_(graph),
        before_memory_(older.snapshot.space),
        after_memory_(newer.snapshot.space),
        before_references_(older.snapshot, *older.runtime(), types),
        after_references_(newer.snapshot, *newer.runtime(), *graph.census.types),
        verdicts_(blocks.objects(), Verdict::kGone) {}

  Survivors run() {
    number_types();
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

  void number_types() {
    std::map<std::pair<std::string, std::string>, std::size_t> numbers;
    const auto number = [&](TypeTable& table, std::vector<std::size_t>& of, std::vector<TypeBrief>& briefs) {
      for (TypeId id = 0; id < table.size(); ++id) {
        const TypeInfo& info = table.info(id);
        of.push_back(numbers.try_emplace({info.module, info.name}, numbers.size()).first->second);
        briefs.push_back(table.classify(info.address));
      }
    };
    number(before_types_, number_before_, briefs_before_);
    number(after_types_, number_after_, briefs_after_);
  }

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
      if (number_before_[before_.type(pair.older)] != number_after_[after_.type(pair.newer)]) continue;
      const Kind kind = after_types_.info(after_.type(pair.newer)).kind;
      const ValueMatch match = match_values(view_after(pair.newer), kind, traits_, before_memory_, after_memory_);
      if (match == ValueMatch::kEqual) verdicts_[pair.older] = Verdict::kSurvived;
      if (match != ValueMatch::kUntold) continue;
      verdicts_[pair.older] = Verdict::kOpen;
      open_.push_back(pair);
    }
  }

  // By the parts that the newer one alone holds, which the older one held too.
  Verdict judge(const Pair& pair) {
    parts_.clear();
    after_references_.for_each(view_after(pair.newer), [&](Addr target, RefKind kind, const EdgeName& name) {
      if (parts_.size() >= kMaxParts || !is_part(kind, name)) return;
      const BlockId part = after_.find_object(target);
      if (part != kNoBlock && graph_.in().row(part).size() == 1) parts_.push_back(target);
    });
    if (parts_.empty()) return Verdict::kSurvived;
    bool had_any = false;
    bool open = false;
    bool same = false;
    std::size_t seen = 0;
    before_references_.for_each(view_before(pair.older), [&](Addr target, RefKind kind, const EdgeName& name) {
      if (same || ++seen > kMaxReferences || !is_part(kind, name)) return;
      had_any = true;
      if (std::find(parts_.begin(), parts_.end(), target) == parts_.end()) return;
      const BlockId part = before_.find_object(target);
      if (part == kNoBlock) return;
      same = verdicts_[part] == Verdict::kSurvived;
      open = open || verdicts_[part] == Verdict::kOpen;
    });
    if (same || !had_any) return Verdict::kSurvived;
    return open ? Verdict::kOpen : Verdict::kGone;
  }

  // Keys of dicts are the program's names, and the same in all instances.
  static bool is_part(RefKind kind, const EdgeName& name) {
    return (kind == RefKind::kVisited || kind == RefKind::kOwned) && name.what != What::kDictKey;
  }

  ObjectView view_before(BlockId id) const { return view(before_, id, briefs_before_); }
  ObjectView view_after(BlockId id) const { return view(after_, id, briefs_after_); }
  static ObjectView view(const BlockTable& blocks, BlockId id, const std::vector<TypeBrief>& briefs) {
    ObjectView object;
    object.address = blocks.address(id);
    object.type = briefs[blocks.type(id)];
    return object;
  }

  const PyTraits& traits_;
  const BlockTable& before_;
  const BlockTable& after_;
  TypeTable& before_types_;
  TypeTable& after_types_;
  const HeapGraph& graph_;
  Reader before_memory_;
  Reader after_memory_;
  ReferenceReader before_references_;
  ReferenceReader after_references_;
  std::vector<Verdict> verdicts_;           // by object of the older
  std::vector<std::size_t> number_before_;  // of a type's name, by TypeId
  std::vector<std::size_t> number_after_;
  std::vector<TypeBrief> briefs_before_;  // by TypeId
  std::vector<TypeBrief> briefs_after_;
  std::vector<Pair> open_;
  std::vector<Addr> parts_;
};

}  // namespace

Survivors find_survivors(const Process& older, const BlockTable& blocks, TypeTable& types, const Process& newer,
                         const HeapGraph& graph) {
  return Matcher(older, blocks, types, newer, graph).run();
}

}  // namespace heapcore

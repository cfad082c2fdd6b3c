#include <tbb/parallel_for.h>
#include <tbb/parallel_sort.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
#include <tuple>

#include "analysis/holders.h"
#include "analysis/waste_parts.h"
#include "pyobj/text_bytes.h"

namespace heapcore {
namespace {

// So many different contents with one hash are no accident, and not worth comparing all with all.
constexpr std::size_t kMostOfOneHash = 16;
constexpr unsigned kEnough = 255;
constexpr std::size_t kPart = std::size_t{1} << 16;

struct HashedString {
  std::uint64_t hash = 0;
  NodeId node = kNoNode;
  std::uint8_t weight = 0;
};

// Only to bring equal contents together; whether they are equal is compared afterwards.
std::uint64_t hash_of(std::span<const std::byte> bytes, std::uint64_t seed) {
  constexpr std::uint64_t kFactor = 0x9e3779b97f4a7c15ULL;
  std::uint64_t hash = seed * kFactor + bytes.size();
  const auto mix = [&](std::uint64_t word) {
    hash = (hash ^ word) * kFactor;
    hash ^= hash >> 29;
  };
  std::size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, 8);
    mix(word);
  }
  std::uint64_t rest = 0;
  std::memcpy(&rest, bytes.data() + at, bytes.size() - at);
  mix(rest);
  return hash * kFactor;
}

class StringFinder {
 public:
  StringFinder(const Process& process, const HeapGraph& graph, const WasteOptions& options)
      : process_(process), graph_(graph), options_(options) {
    const TypeTable& types = *graph.census.types;
    for (TypeId id = 0; id < types.size(); ++id) {
      const TypeInfo& info = types.info(id);
      const bool is_text = info.kind == Kind::kStr || info.kind == Kind::kUnicode || info.kind == Kind::kBytes;
      kinds_.push_back(is_text && is_builtin(info, process.runtime()->traits) ? info.kind : Kind::kUnknown);
    }
  }

  std::vector<StringGroup> run() {
    std::vector<HashedString> strings = candidates(hash_all());
    tbb::parallel_sort(strings.begin(), strings.end(), [](const HashedString& a, const HashedString& b) {
      return std::tie(a.hash, a.node) < std::tie(b.hash, b.node);
    });
    std::vector<StringGroup> groups;
    for (std::size_t i = 0; i < strings.size();) {
      std::size_t end = i + 1;
      while (end < strings.size() && strings[end].hash == strings[i].hash) ++end;
      unsigned weight = 0;
      for (std::size_t k = i; k < end && weight < kEnough; ++k) weight += strings[k].weight;
      if (end - i > 1 && weight >= kEnough) part_by_contents({strings.data() + i, end - i}, groups);
      i = end;
    }
    measure(groups);
    std::sort(groups.begin(), groups.end(),
              [](const StringGroup& a, const StringGroup& b) { return a.copies.front() < b.copies.front(); });
    return groups;
  }

 private:
  using Parts = std::vector<std::vector<HashedString>>;

  Parts hash_all() {
    const NodeId objects = graph_.blocks.objects();
    Parts parts((objects + kPart - 1) / kPart);
    tbb::parallel_for(std::size_t{0}, parts.size(), [&](std::size_t part) {
      Reader reader(process_.snapshot.space);
      const auto end = static_cast<NodeId>(std::min<std::size_t>(objects, (part + 1) * kPart));
      for (auto node = static_cast<NodeId>(part * kPart); node < end; ++node) {
        const TypeId type = graph_.blocks.type(node);
        if (kinds_[type] == Kind::kUnknown) continue;
        const TextBytes text = bytes_of(node, reader);
        const std::uint64_t room = room_of(node);
        if (text.sound && text.bytes.size() <= room)
          parts[part].push_back({hash_of(text.bytes, type + text.length), node, weight_of(room)});
      }
    });
    return parts;
  }

  // What a copy adds to its contents' weight, which is kEnough or more if they are worth reporting.
  std::uint8_t weight_of(std::uint64_t room_bytes) const {
    const std::uint64_t by_count = kEnough / std::max<std::uint64_t>(1, options_.least_copies);
    const std::uint64_t by_bytes = room_bytes * kEnough / std::max<std::uint64_t>(1, options_.least_bytes);
    return static_cast<std::uint8_t>(std::min<std::uint64_t>(kEnough, std::max(by_count, by_bytes) + 1));
  }

  // Most strings are unlike all others. Those whose hash does not come often enough, by a table of a few bytes for each
  // string, need not be sorted; some of others that share a place in it are.
  std::vector<HashedString> candidates(const Parts& parts) const {
    std::size_t count = 0;
    for (const std::vector<HashedString>& part : parts) count += part.size();
    const unsigned bits = static_cast<unsigned>(std::bit_width(count)) + 2;
    std::vector<std::uint8_t> weights(std::size_t{1} << bits);
    for (const std::vector<HashedString>& part : parts) {
      for (const HashedString& string : part) {
        std::uint8_t& weight = weights[string.hash >> (64 - bits)];
        weight = static_cast<std::uint8_t>(std::min<unsigned>(kEnough, weight + string.weight));
      }
    }
    std::vector<HashedString> strings;
    for (const std::vector<HashedString>& part : parts) {
      std::copy_if(part.begin(), part.end(), std::back_inserter(strings),
                   [&](const HashedString& string) { return weights[string.hash >> (64 - bits)] == kEnough; });
    }
    return strings;
  }

  TextBytes bytes_of(NodeId node, Reader& reader) const {
    return text_bytes(reader, process_.runtime()->traits, kinds_[graph_.blocks.type(node)],
                      graph_.blocks.address(node));
  }

  // What a string's contents cannot exceed: so each byte of memory is hashed for one string only, whatever they claim.
  std::uint64_t room_of(NodeId node) const {
    std::uint64_t room = graph_.blocks.bytes(node);
    for (const NodeId to : graph_.out.row(node)) {
      if (!graph_.blocks.is_object(to) && graph_.in().row(to).size() == 1) room += graph_.blocks.bytes(to);
    }
    return room;
  }

  // Of strings with one hash nearly always all are equal.
  void part_by_contents(std::span<const HashedString> strings, std::vector<StringGroup>& groups) {
    struct Contents {
      TypeId type;
      TextBytes text;
      StringGroup group;
    };
    std::vector<Contents> parted;
    for (const HashedString& string : strings) {
      const TypeId type = graph_.blocks.type(string.node);
      const TextBytes text = bytes_of(string.node, reader_);
      auto same = std::find_if(parted.begin(), parted.end(), [&](const Contents& contents) {
        return contents.type == type && contents.text.length == text.length &&
               contents.text.bytes.size() == text.bytes.size() &&
               std::equal(text.bytes.begin(), text.bytes.end(), contents.text.bytes.begin());
      });
      if (same == parted.end()) {
        if (parted.size() == kMostOfOneHash) continue;
        same = parted.insert(parted.end(), {type, text, {}});
      }
      same->group.copies.push_back(string.node);
    }
    for (Contents& contents : parted) {
      if (contents.group.copies.size() > 1) groups.push_back(std::move(contents.group));
    }
  }

  void measure(std::vector<StringGroup>& groups) {
    NodeSizes sizes(process_, graph_);
    for (StringGroup& group : groups) {
      group.length = bytes_of(group.copies.front(), reader_).length;
      for (const NodeId node : group.copies) group.bytes += sizes.of(node);
      group.wasted_bytes = group.bytes - sizes.of(group.copies.front());
    }
    std::erase_if(groups, [&](const StringGroup& group) {
      return group.copies.size() < options_.least_copies && group.wasted_bytes < options_.least_bytes;
    });
  }

  const Process& process_;
  const HeapGraph& graph_;
  const WasteOptions& options_;
  Reader reader_{process_.snapshot.space};
  std::vector<Kind> kinds_;  // by TypeId; kUnknown for what is no string
};

}  // namespace

std::vector<StringGroup> find_duplicate_strings(const Process& process, const HeapGraph& graph,
                                                const WasteOptions& options) {
  return StringFinder(process, graph, options).run();
}

}  // namespace heapcore

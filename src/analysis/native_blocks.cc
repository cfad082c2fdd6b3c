#include "analysis/native_blocks.h"

#include <fmt/format.h>
#include <tbb/blocked_range.h>
#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <bit>
#include <bitset>
#include <cstring>
#include <map>
#include <tuple>
#include <unordered_map>

#include "analysis/cpp_classes.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kWord = sizeof(Addr);
constexpr std::size_t kLookedAt = 256;  // bytes of a chunk
constexpr std::size_t kSamples = 3;
constexpr std::uint64_t kExactBytes = 64 << 10;  // of larger chunks those up to twice as large are one cluster
constexpr std::uint32_t kNoModule = ~std::uint32_t{0};

std::uint64_t word_at(std::span<const std::byte> bytes, std::size_t offset) {
  std::uint64_t word = 0;
  std::memcpy(&word, bytes.data() + offset, kWord);
  return word;
}

// How many of the bytes are text from the beginning: ASCII that prints, or UTF-8.
std::size_t text_bytes(std::span<const std::byte> bytes) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    const auto c = static_cast<unsigned char>(bytes[at]);
    const bool prints = (c >= 0x20 && c < 0x7f) || c == '\n' || c == '\t' || c == '\r';
    const std::size_t more = prints                  ? 0
                             : c >= 0xc2 && c < 0xe0 ? 1
                             : c >= 0xe0 && c < 0xf0 ? 2
                             : c >= 0xf0 && c < 0xf5 ? 3
                                                     : 4;
    if (more == 4 || at + more >= bytes.size()) break;
    const auto follows = [&](std::size_t i) { return (static_cast<unsigned char>(bytes[at + i]) & 0xc0) == 0x80; };
    std::size_t i = 1;
    while (i <= more && follows(i)) ++i;
    if (i <= more) break;
    at += more + 1;
  }
  return at;
}

bool is_text(std::span<const std::byte> bytes) {
  constexpr std::size_t kFewest = 8;
  const std::size_t text = text_bytes(bytes);
  if (text + 4 >= bytes.size()) return text != 0;  // cut in the middle of a character
  const bool ends = bytes[text] == std::byte{0};
  const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
  const bool only = ends && std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(text), bytes.end(), is_zero);
  return text >= kFewest ? ends : text >= 2 && only;
}

// As many different bytes as chance would have, within three standard deviations.
bool is_random(std::span<const std::byte> bytes) {
  constexpr std::size_t kFewest = 64;
  if (bytes.size() < kFewest) return false;
  std::bitset<256> seen;
  double unseen = 256;
  for (const std::byte b : bytes) {
    seen.set(static_cast<std::size_t>(b));
    unseen *= 255.0 / 256;
  }
  return static_cast<double>(seen.count()) > 0.9 * (256 - unseen);
}

bool are_small_numbers(std::span<const std::byte> bytes) {
  constexpr std::int32_t kMost = 1 << 24;
  bool small64 = true;
  bool small32 = true;
  for (std::size_t at = 0; at + kWord <= bytes.size(); at += kWord) {
    const auto word = static_cast<std::int64_t>(word_at(bytes, at));
    small64 = small64 && word > -(std::int64_t{1} << 32) && word < (std::int64_t{1} << 32);
    for (const std::int32_t half : {static_cast<std::int32_t>(word), static_cast<std::int32_t>(word >> 32)})
      small32 = small32 && half > -kMost && half < kMost;
  }
  return small64 || small32;
}

// What a sample shows of its chunk, where values may be shown.
std::string preview(std::span<const std::byte> bytes, Content content) {
  constexpr std::size_t kShownText = 60;
  constexpr std::size_t kShownBytes = 24;
  if (content == Content::kText) {
    const std::span<const std::byte> text = bytes.first(text_bytes(bytes.first(std::min(bytes.size(), kShownText))));
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }
  std::string text;
  for (std::size_t i = 0; i < std::min(bytes.size(), kShownBytes); ++i)
    text += fmt::format("{}{:02x}", i != 0 && i % kWord == 0 ? " " : "", static_cast<unsigned>(bytes[i]));
  return text;
}

struct Found {
  CountBytes chunks;
  CountBytes native;
  std::uint64_t smallest_bytes = ~std::uint64_t{0};
  std::uint64_t largest_bytes = 0;
  NodeId samples[kSamples] = {kNoNode, kNoNode, kNoNode};  // the lowest, ascending

  void add(NodeId node, std::uint64_t bytes, bool is_native) {
    chunks.add(bytes);
    if (is_native) native.add(bytes);
    smallest_bytes = std::min(smallest_bytes, bytes);
    largest_bytes = std::max(largest_bytes, bytes);
    add_sample(node);
  }
  void add_sample(NodeId node) {
    for (NodeId& sample : samples) {
      if (node < sample) std::swap(node, sample);
    }
  }
  void merge(const Found& other) {
    chunks += other.chunks;
    native += other.native;
    smallest_bytes = std::min(smallest_bytes, other.smallest_bytes);
    largest_bytes = std::max(largest_bytes, other.largest_bytes);
    for (const NodeId sample : other.samples) add_sample(sample);
  }
};

struct ClusterKey {
  std::uint64_t size_class = 0;  // bytes, or of large chunks the power of two below them
  std::uint32_t module = kNoModule;
  bool code = false;
  Content content = Content::kMixed;
  std::uint32_t owner = 0;

  bool operator==(const ClusterKey&) const = default;
  auto operator<=>(const ClusterKey&) const = default;
};

struct KeyHash {
  std::size_t operator()(const ClusterKey& key) const {
    std::uint64_t hash = key.size_class;
    for (const std::uint64_t part : {std::uint64_t{key.module}, std::uint64_t{key.code},
                                     static_cast<std::uint64_t>(key.content), std::uint64_t{key.owner}})
      hash = (hash ^ part) * 0x9e3779b97f4a7c15ULL;
    return hash ^ hash >> 32;
  }
};

class NativeFinder {
 public:
  NativeFinder(const Process& process, const HeapGraph& graph, const MallocOwners& owners, const NativeOptions& options)
      : snapshot_(process.snapshot),
        blocks_(graph.blocks),
        owners_(owners),
        options_(options),
        places_(process.snapshot),
        classes_(process.snapshot, places_),
        tallies_([this] { return Tally(snapshot_.space); }) {}

  NativeBlocks run() {
    const tbb::blocked_range<std::size_t> raws(0, owners_.owner_of.size(), std::size_t{1} << 14);
    tbb::parallel_for(raws, [this](const auto& range) {
      Tally& tally = tallies_.local();
      for (std::size_t i = range.begin(); i < range.end(); ++i) {
        const std::uint32_t owner = owners_.owner_of[i];
        if (owner != MallocOwners::kNotAsked) look(static_cast<NodeId>(blocks_.objects() + i), owner, tally);
      }
    });
    NativeBlocks result;
    std::unordered_map<ClusterKey, Found, KeyHash> clusters;
    std::map<std::pair<std::string, std::string>, Found> classes;  // of all vtables of a class
    for (const Tally& tally : tallies_) {
      result.total += tally.total;
      for (const auto& [key, found] : tally.clusters) clusters[key].merge(found);
      for (const auto& [key, found] : tally.classes) {
        const CppClass& info = classes_.info(key.id);
        classes[{key.is_array ? info.name + "[]" : info.name, info.module}].merge(found);
      }
    }
    add_classes(classes, result);
    add_clusters(clusters, result);
    return result;
  }

 private:
  struct ClassKey {
    CppClasses::Id id;
    bool is_array;
    auto operator<=>(const ClassKey&) const = default;
  };

  struct Tally {
    explicit Tally(const AddressSpace& space) : reader(space), cache(kCached) {}

    static constexpr std::size_t kCached = 1024;
    struct Cached {
      Addr word = 0;
      CppClasses::Id id = CppClasses::kNone;
    };

    Reader reader;
    std::vector<Cached> cache;
    CountBytes total;
    std::map<ClassKey, Found> classes;
    std::unordered_map<ClusterKey, Found, KeyHash> clusters;
  };

  // A chunk holds its header's bytes less than it takes; of an mmapped one that is near enough.
  std::span<const std::byte> head_of(NodeId node, Reader& reader) const {
    const std::uint64_t bytes = blocks_.bytes(node);
    const std::span<const std::byte> all = reader.span_to_end(blocks_.address(node));
    return all.first(std::min({all.size(), std::size_t{kLookedAt}, static_cast<std::size_t>(bytes - kWord)}));
  }

  void look(NodeId node, std::uint32_t owner, Tally& tally) {
    const std::uint64_t bytes = blocks_.bytes(node);
    const bool is_native = owners_.raw_owners[owner].is_native;
    if (is_native) tally.total.add(bytes);
    if (bytes <= kWord) return;
    const std::span<const std::byte> head = head_of(node, tally.reader);
    const Addr first = head.size() < kWord ? 0 : word_at(head, 0);
    if (const std::optional<ClassKey> key = class_in(node, head, tally)) {
      tally.classes[*key].add(node, bytes, is_native);
      return;
    }
    if (!is_native) return;
    ClusterKey key;
    key.size_class = bytes <= kExactBytes ? bytes : std::bit_floor(bytes);
    if (const ModulePlace* place = places_.at(first)) {
      key.module = static_cast<std::uint32_t>(place->module - snapshot_.modules.data());
      key.code = place->is_code(first);
    }
    key.content = content_of(head, snapshot_.space);
    key.owner = owner;
    tally.clusters[key].add(node, bytes, true);
  }

  std::optional<ClassKey> class_in(NodeId node, std::span<const std::byte> head, Tally& tally) {
    if (head.size() < kWord) return std::nullopt;
    const CppClasses::Id id = class_of(word_at(head, 0), tally);
    if (id != CppClasses::kNone) return ClassKey{id, false};
    // new Order[n] has n in front of the objects.
    const std::uint64_t bytes = blocks_.bytes(node) - kWord;
    const std::uint64_t count = word_at(head, 0);
    if (head.size() < 2 * kWord || count == 0 || count > bytes / kWord) return std::nullopt;
    const Addr vptr = word_at(head, kWord);
    const CppClasses::Id of_item = class_of(vptr, tally);
    if (of_item == CppClasses::kNone || !is_array_of(node, count, vptr, tally.reader)) return std::nullopt;
    return ClassKey{of_item, true};
  }

  // Does the last of them begin where one must? Their size is known but for what malloc rounds up to.
  bool is_array_of(NodeId node, std::uint64_t count, Addr vptr, Reader& reader) const {
    constexpr std::uint64_t kRounding = 24;
    if (count == 1) return true;
    const std::uint64_t room = blocks_.bytes(node) - 2 * kWord;
    for (std::uint64_t size = align_down(room / count, kWord); size >= kWord && room - size * count < kRounding + 8;
         size -= kWord) {
      const std::optional<Addr> last = reader.load<Addr>(blocks_.address(node) + kWord + (count - 1) * size);
      if (last == vptr) return true;
    }
    return false;
  }

  CppClasses::Id class_of(Addr word, Tally& tally) {
    if (word == 0) return CppClasses::kNone;
    Tally::Cached& cached = tally.cache[(word >> 3) % Tally::kCached];
    if (cached.word != word) {
      const ModulePlace* place = places_.at(word);
      cached = {word, place != nullptr && place->is_file ? classes_.class_of(word) : CppClasses::kNone};
    }
    return cached.id;
  }

  std::vector<NativeSample> samples_of(const Found& found, Content content) const {
    std::vector<NativeSample> samples;
    Reader reader(snapshot_.space);
    for (const NodeId node : found.samples) {
      if (node == kNoNode) break;
      samples.push_back({blocks_.address(node), options_.values ? preview(head_of(node, reader), content) : ""});
    }
    return samples;
  }

  void add_classes(const std::map<std::pair<std::string, std::string>, Found>& classes, NativeBlocks& result) const {
    std::vector<std::pair<const std::pair<std::string, std::string>*, const Found*>> rows;
    for (const auto& [key, found] : classes) rows.emplace_back(&key, &found);
    std::stable_sort(rows.begin(), rows.end(),
                     [](const auto& a, const auto& b) { return a.second->chunks.bytes > b.second->chunks.bytes; });
    result.classes_count = rows.size();
    for (const auto& [key, found] : cut(rows)) {
      result.classes.push_back(
          {key->first, key->second, found->chunks, found->native, samples_of(*found, Content::kMixed)});
    }
  }

  void add_clusters(const std::unordered_map<ClusterKey, Found, KeyHash>& clusters, NativeBlocks& result) const {
    std::vector<std::pair<ClusterKey, const Found*>> rows;
    for (const auto& [key, found] : clusters) rows.emplace_back(key, &found);
    std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) {
      return std::tuple(b.second->chunks.bytes, a.first) < std::tuple(a.second->chunks.bytes, b.first);
    });
    result.clusters_count = rows.size();
    for (const auto& [key, found] : cut(rows)) {
      result.clusters.push_back({found->smallest_bytes, found->largest_bytes, first_word_text(key, *found), key.content,
                                 owners_.raw_owners[key.owner].name, found->chunks, samples_of(*found, key.content)});
    }
  }

  template <typename Row>
  std::span<Row> cut(std::vector<Row>& rows) const {
    return std::span(rows).first(options_.limit == 0 ? rows.size() : std::min(options_.limit, rows.size()));
  }

  // "data of libshop.so", with the symbol where all samples lead to one place.
  std::string first_word_text(const ClusterKey& key, const Found& found) const {
    if (key.module == kNoModule) return "";
    const Module& module = snapshot_.modules[key.module];
    std::string text = fmt::format("{} of {}", key.code ? "code" : "data", module.name());
    Reader reader(snapshot_.space);
    std::optional<Addr> word;
    for (const NodeId node : found.samples) {
      if (node == kNoNode) break;
      const std::optional<Addr> first = reader.load<Addr>(blocks_.address(node));
      if (word && first != word) return text;
      word = first;
    }
    const std::string symbol = word ? module.symbol_at(*word) : "";
    return symbol.empty() ? text : text + ": " + symbol;
  }

  const Snapshot& snapshot_;
  const BlockTable& blocks_;
  const MallocOwners& owners_;
  const NativeOptions& options_;
  ModulePlaces places_;
  CppClasses classes_;
  tbb::enumerable_thread_specific<Tally> tallies_;
};

}  // namespace

std::string_view content_name(Content content) {
  constexpr std::string_view kNames[] = {"zeroes",       "text",  "pointers",  "small numbers",
                                         "high entropy", "mixed", "not dumped"};
  return kNames[static_cast<std::size_t>(content)];
}

Content content_of(std::span<const std::byte> bytes, const AddressSpace& space) {
  constexpr std::size_t kWordsLookedUp = 8;
  if (bytes.empty()) return Content::kMissing;
  if (std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; })) return Content::kZeroes;
  std::size_t words = 0;
  std::size_t addresses = 0;
  for (std::size_t at = 0; at + kWord <= bytes.size() && at < kWordsLookedUp * kWord; at += kWord) {
    const std::uint64_t word = word_at(bytes, at);
    if (word == 0) continue;
    ++words;
    if (space.find(word) != nullptr) ++addresses;
  }
  if (addresses != 0 && 2 * addresses >= words) return Content::kPointers;
  if (is_text(bytes)) return Content::kText;
  if (is_random(bytes)) return Content::kRandom;
  return are_small_numbers(bytes) ? Content::kSmallNumbers : Content::kMixed;
}

NativeBlocks find_native_blocks(const Process& process, const HeapGraph& graph, const MallocOwners& owners,
                                const NativeOptions& options) {
  return NativeFinder(process, graph, owners, options).run();
}

}  // namespace heapcore

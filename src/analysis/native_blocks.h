// Malloc's chunks in use that belong to no Python object: the C++ objects among them by class, the rest in clusters of
// one size, one kind of first word, one kind of content and one holder.
//
// Native are chunks that hold no object and of which no object, nor the interpreter's state, is the owner
// (malloc_owners.h): nobody's, static data's or a stack's. C++ objects are counted in all chunks that hold no Python
// object, those that one owns too, such as what a binding wraps.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "analysis/malloc_owners.h"
#include "support/counts.h"

namespace heapcore {

// What the first bytes of a chunk look like.
enum class Content : std::uint8_t { kZeroes, kText, kPointers, kSmallNumbers, kRandom, kMixed, kMissing };

std::string_view content_name(Content content);
// Of its first bytes; `space` tells addresses from numbers.
Content content_of(std::span<const std::byte> bytes, const AddressSpace& space);

struct NativeSample {
  Addr address = 0;  // of the first byte for its user
  std::string text;  // its beginning; only where values may be shown
};

struct NativeClass {
  std::string name;    // "shop::Order"
  std::string module;  // that has its vtable: "libshop.so"
  CountBytes chunks;
  CountBytes native;  // of which no Python object is the owner
  std::vector<NativeSample> samples;
};

struct NativeCluster {
  std::uint64_t smallest_bytes = 0;  // whole chunks
  std::uint64_t largest_bytes = 0;
  std::string first_word;  // "code of libshop.so", "data of libshop.so"; empty: it leads to no module
  Content content = Content::kMixed;
  std::string held_by;  // "static data of libshop.so"; empty: nothing that was found
  CountBytes chunks;
  std::vector<NativeSample> samples;
};

struct NativeBlocks {
  CountBytes total;                     // native chunks, C++ objects among them
  std::vector<NativeClass> classes;     // the largest first, of all their chunks
  std::vector<NativeCluster> clusters;  // of native chunks that are no C++ objects; the largest first
  std::uint64_t classes_count = 0;      // how many there are in all
  std::uint64_t clusters_count = 0;
};

struct NativeOptions {
  std::size_t limit = 20;  // of each list; 0 for no limit
  bool values = false;     // samples may be shown
};

// REQUIRES: as find_malloc_owners(), whose answer `owners` is.
NativeBlocks find_native_blocks(const Process& process, const HeapGraph& graph, const MallocOwners& owners,
                                const NativeOptions& options);

}  // namespace heapcore

// How a version of CPython behaves: the one unit of this room that knows versions. Everything else asks a trait.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pyobj/py_layout.h"

namespace heapcore {

// As PY_VERSION_HEX has it: 0x030b07f0 is 3.11.7 final.
struct PyVersion {
  std::uint32_t hex = 0;
  bool patch_known = true;  // false where only the file's name told ("libpython3.11.so")

  unsigned major_version() const { return hex >> 24; }
  unsigned minor_version() const { return hex >> 16 & 0xff; }
  std::string text() const;  // "3.11.7"; "3.11" without a known patch
};

// How the sign and the number of digits of an int are kept.
enum class LongRep : std::uint8_t {
  kObSize,  // ob_size, negative for a negative number
  kLvTag,   // lv_tag: bits 0-1 sign, from bit 3 on the digit count (3.12+)
};

// What lies before the PyGC_Head of an object whose type says so in tp_flags.
enum class PreHeader : std::uint8_t {
  kNone,
  kManagedDict,            // two words where MANAGED_DICT is set (3.11)
  kManagedDictOrWeakref,   // two words where either flag is set (3.12+)
};

enum class GcHead : std::uint8_t {
  kRefsWord,  // gc_next, gc_prev, gc_refs; 32 bytes (to 3.7)
  kTwoWords,  // _gc_next, _gc_prev with flags in the low bits; 16 bytes (3.8+)
};

struct PyTraits {
  PyVersion version{};
  const PyLayout* layout = nullptr;
  const char* layout_version = "";  // the table's

  std::uint64_t arena_bytes = 0;
  std::uint64_t pool_bytes = 0;
  std::uint64_t largest_small_block = 512;  // SMALL_REQUEST_THRESHOLD

  LongRep long_rep = LongRep::kObSize;
  PreHeader pre_header = PreHeader::kNone;
  GcHead gc_head = GcHead::kTwoWords;
  // sys.getsizeof counts at least one digit of an int, even of 0 (3.11+).
  bool int_counts_one_digit = false;

  std::uint32_t gc_head_bytes() const { return layout->PyGC_Head.size_bytes; }
};

// Bits of tp_flags that this room tests; the same in all versions supported (Include/object.h).
namespace tp_flag {
inline constexpr std::uint64_t kManagedWeakref = 1 << 3;
inline constexpr std::uint64_t kManagedDict = 1 << 4;
inline constexpr std::uint64_t kHeapType = 1 << 9;
inline constexpr std::uint64_t kReady = 1 << 12;
inline constexpr std::uint64_t kHaveGc = 1 << 14;
inline constexpr std::uint64_t kLongSubclass = 1 << 24;
inline constexpr std::uint64_t kListSubclass = 1 << 25;
inline constexpr std::uint64_t kTupleSubclass = 1 << 26;
inline constexpr std::uint64_t kBytesSubclass = 1 << 27;
inline constexpr std::uint64_t kUnicodeSubclass = 1 << 28;
inline constexpr std::uint64_t kDictSubclass = 1 << 29;
inline constexpr std::uint64_t kTypeSubclass = std::uint64_t{1} << 31;
}  // namespace tp_flag

// Nothing for a version that heapcore cannot read: then that part is refused aloud, never guessed.
std::optional<PyTraits> traits_for(const PyVersion& version);

// The minor versions supported, oldest first, their patch unknown: to probe with, and for messages.
std::vector<PyVersion> supported_versions();

}  // namespace heapcore

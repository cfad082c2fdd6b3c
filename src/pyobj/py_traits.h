// How a version of CPython behaves: the one unit of this room that knows versions. Everything else asks a trait.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pyobj/py_layout.h"

namespace heapcore {

// As PY_VERSION_HEX has it: 0x030b07f0 is 3.11.7 final.
struct PyVersion {
  std::uint32_t hex = 0;
  bool patch_known = true;     // false where only the file's name told ("libpython3.11.so")
  bool free_threaded = false;  // built without the GIL (3.13+): structures, allocator and collector are others

  unsigned major_version() const { return hex >> 24; }
  unsigned minor_version() const { return hex >> 16 & 0xff; }
  std::string text() const;  // "3.11.7"; "3.11" without a known patch
};

// How the sign and the number of digits of an int are kept.
enum class LongRep : std::uint8_t {
  kObSize,  // ob_size, negative for a negative number
  kLvTag,   // lv_tag: bits 0-1 sign, from bit 3 on the digit count (3.12+)
};

// What a text is.
enum class StrRep : std::uint8_t {
  kCompact,   // str: the characters as narrow as they go, mostly behind the object itself
  kTwoTypes,  // str: bytes behind the object; unicode: points to characters, all of one width (2.7)
};

// Where numbers live that are exactly of type int or float.
enum class NumberHome : std::uint8_t {
  kAllocator,     // in blocks of their own, as any object
  kNumberBlocks,  // in blocks that many of them share, linked in lists of their own (2.7)
};

// An object that CPython's own C code counts once too often, in every process that meets it.
struct NeverGivenBack {
  const char* type = nullptr;
  const char* name = nullptr;  // a module's or type's own, or an int's digits; null: any
};

// What lies before the PyGC_Head of an object whose type says so in tp_flags.
enum class PreHeader : std::uint8_t {
  kNone,
  kManagedDict,           // two words where MANAGED_DICT is set (3.11)
  kManagedDictOrWeakref,  // two words where either flag is set (3.12+)
};

enum class GcHead : std::uint8_t {
  kRefsWord,         // gc_next, gc_prev, gc_refs, which is -2 where untracked; 24 or 32 bytes (2.7)
  kShiftedRefsWord,  // the same, gc_refs shifted left by a flag (3.6, 3.7)
  kTwoWords,         // _gc_next, _gc_prev with flags in the low bits; 16 bytes (3.8+)
  kNone,             // no head and no lists: a byte of the object says whether it is tracked (free-threaded)
};

// Whose the collector's generations are.
enum class GcHome : std::uint8_t {
  kStatic,       // a static array, to which _PyGC_generation0 points (to 3.6)
  kRuntime,      // _PyRuntime.gc (3.7, 3.8)
  kInterpreter,  // one collector an interpreter (3.9+)
};

// Where obmalloc's `arenas` and `maxarenas` are.
enum class ObmallocHome : std::uint8_t {
  kStatics,             // static variables (to 3.11)
  kInterpreter,         // in each interpreter's state (3.12)
  kInterpreterPointer,  // each interpreter's state points to one, which interpreters may share (3.13+)
  kNowhere,             // the build has mimalloc in its place (free-threaded)
};

// How a generator says where it stands.
enum class GenState : std::uint8_t {
  kByFrame,         // by its frame: none, running, or before its first instruction (to 3.10)
  kFromMinusTwo,    // -2 created, -1 suspended, 0 running, above that closed (3.11, 3.12)
  kFromMinusThree,  // -3 created, -2 and -1 suspended, 0 running, above that closed (3.13, 3.14)
  kFromZero,        // 0 created, 1 to 3 suspended, 4 running, 5 closed (3.15+)
};

// What a bounded lru_cache visits of each of its links.
enum class LruLinks : std::uint8_t {
  kVisited,                 // the link, which visits its contents itself (3.6)
  kContentsVisited,         // key and result (3.7 to 3.9)
  kContentsAndTypeVisited,  // and the link's type (3.10+)
};

struct PyTraits {
  PyVersion version{};
  const PyLayout* layout = nullptr;
  const char* layout_version = "";  // the table's
  bool debug_build = false;         // built with Py_DEBUG

  std::uint64_t arena_bytes = 0;
  std::uint64_t pool_bytes = 0;
  std::uint64_t largest_small_block = 512;  // SMALL_REQUEST_THRESHOLD

  LongRep long_rep = LongRep::kObSize;
  PreHeader pre_header = PreHeader::kNone;
  GcHead gc_head = GcHead::kTwoWords;
  // sys.getsizeof counts at least one digit of an int, even of 0 (3.11+).
  bool int_counts_one_digit = false;
  // It starts from tp_basicsize, whatever a subclass adds to that (2.7).
  bool int_size_from_type = false;

  StrRep str_rep = StrRep::kCompact;
  std::uint64_t unicode_unit_bytes = 4;  // of a character of unicode; 2 in narrow builds (kTwoTypes)
  NumberHome number_home = NumberHome::kAllocator;
  const char* builtins_module = "builtins";  // as types name it

  // A static type may have instances before anybody made it ready, or without that (to 3.10).
  bool unready_types = false;

  // It counts the collector's header of static types too, though they have none (3.11, 3.12).
  bool static_types_count_header = false;

  GenState gen_state = GenState::kByFrame;

  // Static types of weak references and contexts are called as their modules hold them: "weakref.ReferenceType", and
  // not "weakref" (3.10+).
  bool static_types_named_as_held = true;

  // ctypes' dict of a type has a __sizeof__ of its own (3.7 to 3.12).
  bool stgdict_has_sizeof = true;
  // So have those iterators of itertools that keep a pool (3.x).
  bool itertools_has_sizeof = true;
  std::uint64_t deque_block_items = 64;  // BLOCKLEN

  // Instances of heap types made in C visit their type (3.9+); those of classes always do.
  bool c_instances_visit_type = true;
  // gi_frame_state from this value on: the generator's frame is gone.
  std::int8_t frame_cleared = 4;
  // An OrderedDict visits its keys once more, in its own list.
  bool ordered_dict_visits_nodes = true;
  // And the list of the weak references to it (to 3.7.6 and 3.8.2).
  bool ordered_dict_visits_weakrefs = false;
  // An instance that has its dict visits that, and the dict the values that lie in the instance; not the instance
  // itself (3.13.13+, 3.14.4+, and where distributions backported it).
  bool dict_visits_inline_values = false;
  // TypeVar and its kin visit their name (3.13.10+, 3.14.1+).
  bool type_variables_visit_name = false;
  // methodcaller keeps its arguments in a tuple, and visits what it calls with (3.14+).
  bool methodcaller_args_are_tuple = false;
  // Such a generator still visits its code (3.14+).
  bool cleared_generator_visits_code = false;
  LruLinks lru_links = LruLinks::kContentsAndTypeVisited;
  // repr() of an OrderedDict lists pairs, and is not as a dict's (to 3.11).
  bool ordered_dict_shows_pairs = false;

  std::array<NeverGivenBack, 5> never_given_back{};  // the rest: empty

  GcHome gc_home = GcHome::kInterpreter;
  ObmallocHome obmalloc_home = ObmallocHome::kStatics;
  // Of an object's first word, the bits that count references, and what they stay below. Other bits that are set make
  // it no object: no count reaches 2^40, for it would take as many references, of 8 bytes each, as an address space
  // holds.
  std::uint64_t refcnt_mask = ~std::uint64_t{0};
  std::uint64_t refcnt_bound = std::uint64_t{1} << 40;

  // Bits of PyASCIIObject.state before `kind`: those of `interned`.
  unsigned str_interned_bits = 2;

  // Of builds without the GIL: what ob_ref_shared counts more, for an object with deferred reference counting; and
  // whether BytesIO takes its buffer for shared unless its thread owns it (3.14+).
  std::int64_t deferred_refs = 0;
  bool bytesio_must_own_buffer = false;
  // Of those builds too: its collector takes dicts off that hold nothing of its own (3.13).
  bool gc_untracks_dicts = false;

  std::uint32_t gc_head_bytes() const { return layout->PyGC_Head.size_bytes; }
};

// Bits of ob_gc_bits in free-threaded builds (Include/internal/pycore_gc.h).
namespace gc_bit {
inline constexpr std::uint8_t kTracked = 1 << 0;
inline constexpr std::uint8_t kUnreachable = 1 << 2;
inline constexpr std::uint8_t kFrozen = 1 << 3;
inline constexpr std::uint8_t kDeferred = 1 << 6;
}  // namespace gc_bit

// Bits of tp_flags that this room tests; the same in all versions supported (Include/object.h).
namespace tp_flag {
inline constexpr std::uint64_t kInlineValues = 1 << 2;  // 3.13+
inline constexpr std::uint64_t kManagedWeakref = 1 << 3;
inline constexpr std::uint64_t kManagedDict = 1 << 4;
inline constexpr std::uint64_t kHeapType = 1 << 9;
inline constexpr std::uint64_t kReady = 1 << 12;
inline constexpr std::uint64_t kHaveGc = 1 << 14;
inline constexpr std::uint64_t kIntSubclass = 1 << 23;  // 2.7
inline constexpr std::uint64_t kLongSubclass = 1 << 24;
inline constexpr std::uint64_t kListSubclass = 1 << 25;
inline constexpr std::uint64_t kTupleSubclass = 1 << 26;
inline constexpr std::uint64_t kBytesSubclass = 1 << 27;
inline constexpr std::uint64_t kUnicodeSubclass = 1 << 28;
inline constexpr std::uint64_t kDictSubclass = 1 << 29;
inline constexpr std::uint64_t kBaseExcSubclass = 1 << 30;
inline constexpr std::uint64_t kTypeSubclass = std::uint64_t{1} << 31;
}  // namespace tp_flag

// A minor version may have several layouts. Those that may hold for `version`, the likeliest first, release builds
// before debug builds; which of them does is for the runtime itself to say (it verifies or not). None for a version
// that heapcore cannot read: then that part is refused aloud, never guessed.
std::vector<PyTraits> candidate_traits(const PyVersion& version);

// The likeliest one.
std::optional<PyTraits> traits_for(const PyVersion& version);

// The minor versions supported, oldest first, their patch unknown: to probe with, and for messages.
std::vector<PyVersion> supported_versions(bool free_threaded = false);

}  // namespace heapcore

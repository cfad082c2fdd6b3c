// What an object is: the C struct that it begins with, by the nearest base of its type that heapcore knows. Decoding
// (values), measuring (sizes) and following (references) all ask for the kind.
//
// The list is kinds.def; source: each type's definition in CPython 2.7 to 3.15 (Objects/*.c, Modules/*.c) and numpy.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace heapcore {

enum class Kind : std::uint8_t {
  kUnknown,   // a type of an extension module that heapcore does not know
  kInstance,  // of a class whose nearest known base is `object`
  kType,
  kNone,
  kNotImplemented,
  kEllipsis,
  kSmallInt,  // 2.7's int
  kInt,       // 2.7's long
  kBool,
  kFloat,
  kComplex,
  kStr,
  kUnicode,  // 2.7's
  kBytes,    // 2.7's str
  kByteArray,
  kTuple,
  kList,
  kSet,
  kFrozenSet,
  kDict,
  kOrderedDict,
  kDefaultDict,
  kFrozenDict,
  kStgDict,
  kDictView,
  kMappingProxy,
  kSlice,
  kRange,
  kFunction,
  kMethod,
  kBuiltinFunction,
  kMethodDescriptor,
  kMemberDescriptor,
  kGetSetDescriptor,
  kWrapperDescriptor,
  kMethodWrapper,
  kCode,
  kFrame,
  kGenerator,
  kCoroutine,
  kAsyncGenerator,
  kFuture,
  kTask,
  kModule,
  kCell,
  kWeakref,
  kProperty,
  kStaticMethod,
  kClassMethod,
  kException,
  kTraceback,
  kDeque,
  kMemoryView,
  kManagedBuffer,
  kPartial,
  kLruCache,
  kNdarray,
  kArray,
  kDateTime,
  kClassicClass,
  kClassicInstance,
  kOther,  // known, but with nothing to show beyond its fields
};

// How sys.getsizeof measures an instance: which __sizeof__ the type has or inherits.
enum class SizeRule : std::uint8_t {
  kFixed,  // tp_basicsize
  kVar,    // tp_basicsize + |ob_size| * tp_itemsize
  kInt,
  kStr,
  kByteStr,  // 2.7's str
  kWideStr,  // 2.7's unicode
  kList,
  kDict,
  kOrderedDict,
  kSet,
  kDeque,
  kByteArray,
  kType,
  kCode,
  kFrame,
  kGenerator,  // coroutines and async generators too
  kBuffered,   // _io.BufferedReader, BufferedWriter, BufferedRandom
  kBytesIO,
  kArray,
  kStruct,
  kCtypesType,  // ctypes' types, which keep what ctypes knows of them behind the heap type (3.13+)
  kStgDict,     // what ctypes has for the dict of its types
  kElement,
  kProduct,
  kCombinations,  // with replacement too
  kPermutations,
  kDecimal,
  kNdarray,  // numpy's arrays: their shape, and their data if it is theirs
};

// The structures of layouts/fields.def.
enum class StructId : std::uint16_t {
#define HC_STRUCT(tag) k##tag,
#define HC_FIELD(name)
#define HC_FIELD_AT(name, path)
#define HC_END(tag)
#include "pyobj/layouts/fields.def"
#undef HC_STRUCT
#undef HC_FIELD
#undef HC_FIELD_AT
#undef HC_END
};

struct KindRow {
  Kind kind = Kind::kUnknown;
  std::string_view tp_name;
  StructId struct_id = StructId::kPyObject;  // which instances begin with
  SizeRule size_rule = SizeRule::kFixed;
};

// As answers call it: "int", "ordered dict", "unknown".
const char* kind_name(Kind kind);

// Null for a name that is not known.
const KindRow* kind_row(std::string_view tp_name);

}  // namespace heapcore

#include "pyobj/kinds.h"

#include <unordered_map>

namespace heapcore {
namespace {

constexpr KindRow kRows[] = {
#define HC_KIND(kind, tp_name, tag, rule) {Kind::kind, tp_name, StructId::k##tag, SizeRule::rule},
#include "pyobj/kinds.def"
};

}  // namespace

const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::kUnknown:
      return "unknown";
    case Kind::kInstance:
      return "instance";
    case Kind::kType:
      return "type";
    case Kind::kNone:
      return "None";
    case Kind::kNotImplemented:
      return "NotImplemented";
    case Kind::kEllipsis:
      return "ellipsis";
    case Kind::kSmallInt:
      return "int";
    case Kind::kInt:
      return "int";
    case Kind::kBool:
      return "bool";
    case Kind::kFloat:
      return "float";
    case Kind::kComplex:
      return "complex";
    case Kind::kStr:
      return "str";
    case Kind::kUnicode:
      return "unicode";
    case Kind::kBytes:
      return "bytes";
    case Kind::kByteArray:
      return "bytearray";
    case Kind::kTuple:
      return "tuple";
    case Kind::kList:
      return "list";
    case Kind::kSet:
      return "set";
    case Kind::kFrozenSet:
      return "frozenset";
    case Kind::kDict:
      return "dict";
    case Kind::kOrderedDict:
      return "ordered dict";
    case Kind::kDefaultDict:
      return "default dict";
    case Kind::kFrozenDict:
      return "frozendict";
    case Kind::kStgDict:
      return "ctypes dict";
    case Kind::kDictView:
      return "dict view";
    case Kind::kMappingProxy:
      return "mappingproxy";
    case Kind::kSlice:
      return "slice";
    case Kind::kRange:
      return "range";
    case Kind::kFunction:
      return "function";
    case Kind::kMethod:
      return "method";
    case Kind::kBuiltinFunction:
      return "builtin function";
    case Kind::kMethodDescriptor:
      return "method descriptor";
    case Kind::kMemberDescriptor:
      return "member descriptor";
    case Kind::kGetSetDescriptor:
      return "getset descriptor";
    case Kind::kWrapperDescriptor:
      return "wrapper descriptor";
    case Kind::kMethodWrapper:
      return "method wrapper";
    case Kind::kCode:
      return "code";
    case Kind::kFrame:
      return "frame";
    case Kind::kGenerator:
      return "generator";
    case Kind::kCoroutine:
      return "coroutine";
    case Kind::kAsyncGenerator:
      return "async generator";
    case Kind::kFuture:
      return "future";
    case Kind::kTask:
      return "task";
    case Kind::kModule:
      return "module";
    case Kind::kCell:
      return "cell";
    case Kind::kWeakref:
      return "weak reference";
    case Kind::kProperty:
      return "property";
    case Kind::kStaticMethod:
      return "static method";
    case Kind::kClassMethod:
      return "class method";
    case Kind::kException:
      return "exception";
    case Kind::kTraceback:
      return "traceback";
    case Kind::kDeque:
      return "deque";
    case Kind::kMemoryView:
      return "memoryview";
    case Kind::kManagedBuffer:
      return "managed buffer";
    case Kind::kPartial:
      return "partial";
    case Kind::kLruCache:
      return "lru_cache wrapper";
    case Kind::kNdarray:
      return "ndarray";
    case Kind::kArray:
      return "array";
    case Kind::kDateTime:
      return "datetime";
    case Kind::kClassicClass:
      return "classic class";
    case Kind::kClassicInstance:
      return "classic instance";
    case Kind::kOther:
      return "other";
  }
  return "unknown";
}

const KindRow* kind_row(std::string_view tp_name) {
  static const std::unordered_map<std::string_view, const KindRow*> by_name = [] {
    std::unordered_map<std::string_view, const KindRow*> rows;
    for (const KindRow& row : kRows) rows.emplace(row.tp_name, &row);
    return rows;
  }();
  constexpr std::string_view kExceptions = "exceptions.";  // the module in which 2.7 has those that are builtin
  if (tp_name.starts_with(kExceptions)) tp_name.remove_prefix(kExceptions.size());
  const auto found = by_name.find(tp_name);
  return found == by_name.end() ? nullptr : found->second;
}

}  // namespace heapcore

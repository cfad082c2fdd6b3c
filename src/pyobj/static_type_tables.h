// By what the static types of the interpreter and of its modules may be known: the symbols that name them, the modules
// and attributes that hold them. Facts only; who looks, and in which order, is type_names.cc. Private to it.
//
// A row holds for every version that has such a symbol, module or attribute; the others have none to look at.
#pragma once

#include <string_view>
#include <utility>

namespace heapcore::static_type_tables {

struct Named {
  const char* symbol;
  const char* tp_name;
};

// Include/cpython/*.h, Include/*.h.
inline constexpr Named kExported[] = {
    {"PyType_Type", "type"},
    {"PyBaseObject_Type", "object"},
    {"PyLong_Type", "int"},
    {"PyBool_Type", "bool"},
    {"PyFloat_Type", "float"},
    {"PyComplex_Type", "complex"},
    {"PyUnicode_Type", "str"},
    {"PyBytes_Type", "bytes"},
    {"PyByteArray_Type", "bytearray"},
    {"PyTuple_Type", "tuple"},
    {"PyList_Type", "list"},
    {"PyDict_Type", "dict"},
    {"PySet_Type", "set"},
    {"PyFrozenSet_Type", "frozenset"},
    {"PySlice_Type", "slice"},
    {"PyModule_Type", "module"},
    {"PyFunction_Type", "function"},
    {"PyMethod_Type", "method"},
    {"PyCFunction_Type", "builtin_function_or_method"},
    {"PyCode_Type", "code"},
    {"PyFrame_Type", "frame"},
    {"PyGen_Type", "generator"},
    {"PyCoro_Type", "coroutine"},
    {"PyAsyncGen_Type", "async_generator"},
    {"PyCell_Type", "cell"},
    {"PyProperty_Type", "property"},
    {"PyStaticMethod_Type", "staticmethod"},
    {"PyClassMethod_Type", "classmethod"},
    {"PyMethodDescr_Type", "method_descriptor"},
    {"PyMemberDescr_Type", "member_descriptor"},
    {"PyGetSetDescr_Type", "getset_descriptor"},
    {"PyWrapperDescr_Type", "wrapper_descriptor"},
    {"PyClassMethodDescr_Type", "classmethod_descriptor"},
    {"PyMemoryView_Type", "memoryview"},
    {"PyCapsule_Type", "PyCapsule"},
    {"PyTraceBack_Type", "traceback"},
    {"PyDictProxy_Type", "mappingproxy"},
    {"PyODict_Type", "collections.OrderedDict"},
};

// What 2.7 calls otherwise.
inline constexpr Named kExportedOf2[] = {
    {"PyInt_Type", "int"},
    {"PyLong_Type", "long"},
    {"PyString_Type", "str"},
    {"PyUnicode_Type", "unicode"},
    {"PyRange_Type", "xrange"},
    {"PyFile_Type", "file"},
    {"PyBuffer_Type", "buffer"},
    {"PyClass_Type", "classobj"},
    {"PyInstance_Type", "instance"},
    {"PyMethod_Type", "instancemethod"},
    {"PyDictProxy_Type", "dictproxy"},
};

struct Held {
  const char* module;
  const char* key;
  const char* tp_name;
};

// Static types of which only one other is derived.
struct Derived {
  std::string_view base;
  const char* tp_name;
};
inline constexpr Derived kDerived[] = {
    {"builtin_function_or_method", "builtin_method"},  // 3.9+
    {"dict_keys", "odict_keys"},
    {"dict_values", "odict_values"},
    {"dict_items", "odict_items"},
};

// Types that modules hold under another name than their own (Lib/types.py, Lib/_collections_abc.py, Modules/*.c). The
// first row that applies wins.
inline constexpr Held kHeldTypes[] = {
    {"_typing", "Union", "typing.Union"},
    {"types", "FunctionType", "function"},
    {"types", "CodeType", "code"},
    {"types", "MappingProxyType", "mappingproxy"},
    {"types", "SimpleNamespace", "types.SimpleNamespace"},
    {"types", "CellType", "cell"},
    {"types", "GeneratorType", "generator"},
    {"types", "CoroutineType", "coroutine"},
    {"types", "AsyncGeneratorType", "async_generator"},
    {"types", "BuiltinFunctionType", "builtin_function_or_method"},
    {"types", "WrapperDescriptorType", "wrapper_descriptor"},
    {"types", "MethodWrapperType", "method-wrapper"},
    {"types", "MethodDescriptorType", "method_descriptor"},
    {"types", "ClassMethodDescriptorType", "classmethod_descriptor"},
    {"types", "ModuleType", "module"},
    {"types", "TracebackType", "traceback"},
    {"types", "FrameType", "frame"},
    {"types", "GetSetDescriptorType", "getset_descriptor"},
    {"types", "MemberDescriptorType", "member_descriptor"},
    {"types", "GenericAlias", "types.GenericAlias"},
    {"types", "UnionType", "types.UnionType"},
    {"types", "CapsuleType", "PyCapsule"},
    {"types", "LazyImportType", "lazy_import"},
    {"types", "DictProxyType", "dictproxy"},
    {"types", "ClassType", "classobj"},
    {"types", "InstanceType", "instance"},
    {"string.templatelib", "Template", "string.templatelib.Template"},
    {"string.templatelib", "Interpolation", "string.templatelib.Interpolation"},
    {"annotationlib", "_Template", "string.templatelib.Template"},
    {"annotationlib", "_Interpolation", "string.templatelib.Interpolation"},
    {"parser", "STType", "parser.st"},
    {"parser", "ASTType", "parser.st"},
    {"_collections_abc", "bytes_iterator", "bytes_iterator"},
    {"_collections_abc", "bytearray_iterator", "bytearray_iterator"},
    {"_collections_abc", "dict_keyiterator", "dict_keyiterator"},
    {"_collections_abc", "dict_valueiterator", "dict_valueiterator"},
    {"_collections_abc", "dict_itemiterator", "dict_itemiterator"},
    {"_collections_abc", "list_iterator", "list_iterator"},
    {"_collections_abc", "list_reverseiterator", "list_reverseiterator"},
    {"_collections_abc", "range_iterator", "range_iterator"},
    {"_collections_abc", "longrange_iterator", "longrange_iterator"},
    {"_collections_abc", "set_iterator", "set_iterator"},
    {"_collections_abc", "tuple_iterator", "tuple_iterator"},
    {"_collections_abc", "dict_keys", "dict_keys"},
    {"_collections_abc", "dict_values", "dict_values"},
    {"_collections_abc", "dict_items", "dict_items"},
    {"_collections_abc", "mappingproxy", "mappingproxy"},
    {"_collections", "deque", "collections.deque"},
    {"_collections", "defaultdict", "collections.defaultdict"},
    {"_collections", "OrderedDict", "collections.OrderedDict"},
    {"_struct", "Struct", "Struct"},
    {"_thread", "LockType", "_thread.lock"},
    {"thread", "LockType", "thread.lock"},
    {"cStringIO", "InputType", "cStringIO.StringI"},
    {"cStringIO", "OutputType", "cStringIO.StringO"},
    {"_socket", "SocketType", "_socket.socket"},
    {"array", "ArrayType", "array.array"},
    {"pyexpat", "XMLParserType", "pyexpat.xmlparser"},
    {"_json", "make_scanner", "_json.Scanner"},
    {"_json", "make_encoder", "_json.Encoder"},
    {"re", "_pattern_type", "_sre.SRE_Pattern"},
    {"posix", "stat_result", "os.stat_result"},
    {"posix", "statvfs_result", "os.statvfs_result"},
    {"posix", "terminal_size", "os.terminal_size"},
};

// Values of which the type is known.
inline constexpr Held kHeldValues[] = {
    {"builtins", "None", "NoneType"},
    {"builtins", "NotImplemented", "NotImplementedType"},
    {"builtins", "Ellipsis", "ellipsis"},
    {"builtins", "len", "builtin_function_or_method"},
    {"__builtin__", "None", "NoneType"},
    {"__builtin__", "NotImplemented", "NotImplementedType"},
    {"__builtin__", "Ellipsis", "ellipsis"},
    {"__builtin__", "len", "builtin_function_or_method"},
    {"sys", "implementation", "types.SimpleNamespace"},
    {"sys", "float_info", "sys.float_info"},
    {"sys", "long_info", "sys.long_info"},
    {"sys", "flags", "sys.flags"},
    {"sys", "version_info", "sys.version_info"},
    {"_frozen_importlib", "_find_and_load", "function"},
    {"posixpath", "join", "function"},
    {"_datetime", "datetime_CAPI", "PyCapsule"},
    {"datetime", "datetime_CAPI", "PyCapsule"},
    {"_socket", "CAPI", "PyCapsule"},
    {"_ctypes", "Structure", "_ctypes.PyCStructType"},
    {"_ctypes", "Union", "_ctypes.UnionType"},
    {"_ctypes", "_Pointer", "_ctypes.PyCPointerType"},
    {"_ctypes", "Array", "_ctypes.PyCArrayType"},
    {"_ctypes", "_SimpleCData", "_ctypes.PyCSimpleType"},
    {"_ctypes", "CFuncPtr", "_ctypes.PyCFuncPtrType"},
};

// Values in the dicts of types of which the type is known.
struct Attribute {
  const char* type;
  const char* name;
  const char* tp_name;
};
inline constexpr Attribute kAttributes[] = {
    {"object", "__repr__", "wrapper_descriptor"},   {"list", "append", "method_descriptor"},
    {"dict", "fromkeys", "classmethod_descriptor"}, {"object", "__class__", "getset_descriptor"},
    {"slice", "start", "member_descriptor"},        {"str", "maketrans", "staticmethod"},
};

// Attributes of which no other static type of the interpreter has the first, or both.
struct Mark {
  const char* first;
  const char* second;  // null: the first is enough
  const char* tp_name;
};
inline constexpr Mark kMarks[] = {
    {"gi_code", nullptr, "generator"},       {"cr_code", nullptr, "coroutine"},
    {"ag_code", nullptr, "async_generator"}, {"co_code", nullptr, "code"},
    {"f_lasti", nullptr, "frame"},           {"tb_lasti", nullptr, "traceback"},
    {"cell_contents", nullptr, "cell"},      {"im_class", nullptr, "instancemethod"},
    {"__func__", "__self__", "method"},      {"__self__", "__objclass__", "method-wrapper"},
};

// Modules that give their types the name of the public one.
inline constexpr std::pair<const char*, const char*> kPublicModules[] = {
    {"_functools", "functools"},
    {"_operator", "operator"},
    {"_datetime", "datetime"},
    {"_decimal", "decimal"},
    {"_elementtree", "xml.etree.ElementTree"},
    {"_sqlite3", "sqlite3"},
    {"_typing", "typing"},
    {"numpy.core._multiarray_umath", "numpy"},
    {"numpy._core._multiarray_umath", "numpy"},
};

}  // namespace heapcore::static_type_tables

// How many references an object counts, in builds of either kind.
//
// With the GIL one word counts. A free-threaded build (3.13+) splits the count: ob_ref_local is for the thread that
// owns the object, ob_ref_shared, from bit 2 on, for all others (it may be negative); its two low bits are flags. An
// object with deferred reference counting counts a fixed number more, which stands for references that are not counted
// (Include/object.h, Include/refcount.h, Include/internal/pycore_object.h). Of types, code and the dicts of modules
// each thread counts its own references apart (3.14+: Python/uniqueid.c); the collector adds them up first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>

#include "pyobj/py_traits.h"
#include "pyobj/runtime.h"

namespace heapcore {

// `object` begins at the object and reaches at least over its PyObject.
std::int64_t reference_count(const PyTraits& traits, std::span<const std::byte> object);

// By object, what all threads together count apart: to be added to its reference_count().
std::unordered_map<Addr, std::int64_t> counts_by_threads(Reader& reader, const PyRuntime& runtime);

// Does it have deferred reference counting?
bool is_deferred(const PyTraits& traits, std::span<const std::byte> object);

// Whether a BytesIO would take this buffer of its for nobody else's.
bool is_own_buffer(const PyTraits& traits, std::span<const std::byte> buffer);

// Does anything refer to it, as to every object that lives? False also for a count that none can have.
bool is_referenced(const PyTraits& traits, std::span<const std::byte> object);

}  // namespace heapcore

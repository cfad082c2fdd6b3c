#include "pyobj/refcounts.h"

#include <algorithm>
#include <cstring>

#include "pyobj/frames.h"

namespace heapcore {
namespace {

template <typename T>
T field_of(std::span<const std::byte> object, const Field& field) {
  T value{};
  if (field.offset + sizeof(T) <= object.size()) std::memcpy(&value, object.data() + field.offset, sizeof(T));
  return value;
}

}  // namespace

std::int64_t reference_count(const PyTraits& traits, std::span<const std::byte> object) {
  const auto& fields = traits.layout->PyObject;
  if (!fields.ob_ref_local.present())
    return static_cast<std::int64_t>(field_of<std::uint64_t>(object, fields.ob_refcnt) & traits.refcnt_mask);
  constexpr std::uint32_t kImmortal = UINT32_MAX;  // whatever else it says
  const auto local = field_of<std::uint32_t>(object, fields.ob_ref_local);
  if (local == kImmortal) return kImmortal;
  const std::int64_t count = local + (field_of<std::int64_t>(object, fields.ob_ref_shared) >> 2);
  return is_deferred(traits, object) ? count - traits.deferred_refs : count;
}

bool is_deferred(const PyTraits& traits, std::span<const std::byte> object) {
  const Field& bits = traits.layout->PyObject.ob_gc_bits;
  return bits.present() && (field_of<std::uint8_t>(object, bits) & gc_bit::kDeferred) != 0;
}

std::unordered_map<Addr, std::int64_t> counts_by_threads(Reader& reader, const PyRuntime& runtime) {
  constexpr std::uint64_t kMaxNumbers = 1 << 24;
  constexpr std::uint64_t kWordBytes = 8;
  const auto& of_interpreter = runtime.traits.layout->PyInterpreterState;
  const auto& of_thread = runtime.traits.layout->_PyThreadStateImpl;
  std::unordered_map<Addr, std::int64_t> counts;
  if (!of_interpreter.unique_ids_table.present() || !of_thread.refcounts_values.present()) return counts;
  for (const Interpreter& interpreter : runtime.interpreters) {
    Addr objects = 0;
    std::uint64_t numbers = 0;
    if (!reader.try_load(interpreter.address + of_interpreter.unique_ids_table.offset, objects) ||
        !reader.try_load(interpreter.address + of_interpreter.unique_ids_size.offset, numbers))
      continue;
    for (const Addr thread : thread_states(reader, runtime, interpreter)) {
      Addr values = 0;
      std::uint64_t size = 0;
      if (!reader.try_load(thread + of_thread.refcounts_values.offset, values) || values == 0 ||
          !reader.try_load(thread + of_thread.refcounts_size.offset, size))
        continue;
      for (std::uint64_t i = 0; i < std::min({size, numbers, kMaxNumbers}); ++i) {
        std::int64_t count = 0;
        Addr object = 0;
        if (!reader.try_load(values + i * kWordBytes, count) || !reader.try_load(objects + i * kWordBytes, object))
          break;
        if (count != 0) counts[object] += count;
      }
    }
  }
  return counts;
}

bool is_own_buffer(const PyTraits& traits, std::span<const std::byte> buffer) {
  if (!traits.bytesio_must_own_buffer) return reference_count(traits, buffer) <= 1;
  return field_of<std::uint32_t>(buffer, traits.layout->PyObject.ob_ref_local) == 1 &&
         field_of<std::int64_t>(buffer, traits.layout->PyObject.ob_ref_shared) == 0;
}

bool is_referenced(const PyTraits& traits, std::span<const std::byte> object) {
  const auto& fields = traits.layout->PyObject;
  if (!fields.ob_ref_local.present())
    return (field_of<std::uint64_t>(object, fields.ob_refcnt) & traits.refcnt_mask) - 1 < traits.refcnt_bound;
  // Either may be 0, or make up for the other, in an object that lives. One that is freed has none of either.
  return field_of<std::uint32_t>(object, fields.ob_ref_local) != 0 ||
         field_of<std::int64_t>(object, fields.ob_ref_shared) >> 2 != 0;
}

}  // namespace heapcore

#include "pyobj/refcounts.h"

#include <cstring>

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
  const bool deferred = (field_of<std::uint8_t>(object, fields.ob_gc_bits) & gc_bit::kDeferred) != 0;
  return deferred ? count - traits.deferred_refs : count;
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

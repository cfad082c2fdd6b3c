#include "decode.h"

#include "pyobj/objects.h"
#include "pyobj/refcounts.h"
#include "pyobj/references.h"
#include "pyobj/types.h"
#include "pyobj/values.h"
#include "target.h"

namespace heapcore::fuzz {
namespace {

// More edges than the whole snapshot has words are not followed but made up.
constexpr std::uint64_t kMostEdges = std::uint64_t{1} << 24;

}  // namespace

void decode(Process& process, const std::vector<Addr>& objects) {
  Findings findings;
  const PyRuntime& runtime = *process.runtime();
  TypeTable types(process.snapshot, runtime);
  ObjectReader reader(process.snapshot, runtime.traits, types);
  ReferenceReader references(process.snapshot, runtime, types);
  ValueReader values(process.snapshot, runtime, types, {true, 20, nullptr}, findings);
  Reader memory(process.snapshot.space);
  for (const Addr address : objects) {
    ObjectView object;
    if (!reader.at(address, object)) continue;
    const std::span<const std::byte> bytes = memory.span_to_end(address);
    if (bytes.size() >= object.type.basicsize) static_cast<void>(reader.size_of(object, bytes));
    static_cast<void>(reader.is_linked(object));
    std::uint64_t edges = 0;
    references.for_each(object, [&](Addr, RefKind, const EdgeName& name) {
      if (++edges < 64) static_cast<void>(edge_text(memory, runtime.traits, name, ShownKeys::kAll));
    });
    promise(edges < kMostEdges, "an object has no more references than there is memory");
    const Value value = values.describe(address);
    promise(value.text.size() < (1U << 20), "a line is a line");
    static_cast<void>(values.place_inside(address));
  }
}

}  // namespace heapcore::fuzz

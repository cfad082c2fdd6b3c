// mimalloc's segments, pages and free lists, and the objects in them, in a synthesised free-threaded CPython 3.13.
#include "pyobj/mimalloc.h"

#include <gtest/gtest.h>

#include "analysis/census.h"
#include "glibc_heap_builder.h"
#include "pyobj/refcounts.h"

namespace heapcore::testing {
namespace {

constexpr Addr kState = 0x610000000000;
constexpr Addr kTypes = 0x620000000000;
constexpr Addr kFirstSegment = 0x200000000000;
constexpr std::uint64_t kSegmentAlign = 32 << 20;
constexpr std::uint64_t kSlice = 64 << 10;
constexpr std::uint64_t kSlices = 16;  // of each segment here
constexpr std::uint64_t kCookie = 0x5eed5eed5eed5eed;

class FakeMimalloc : public FakeProcess {
 public:
  FakeMimalloc() : traits_(*traits_for({0x030d05f0, true, true})) {
    add_memory(kState, 0x100000, "");
    add_memory(kTypes, 0x10000, "");
    put(interpreter + layout().PyInterpreterState.threads_head.offset, thread);
    put32(thread + layout()._PyThreadStateImpl.mimalloc_initialized.offset, 1);
    type_type = add_type("type", 432, tp_flag::kTypeSubclass | tp_flag::kHaveGc);
    float_type = add_type("float", 40, 0);
    set_type = add_type("set", 216, tp_flag::kHaveGc);
    node_type = add_type("Node", 32, tp_flag::kHaveGc | tp_flag::kManagedDict);
  }

  const PyLayout& layout() const { return *traits_.layout; }

  Addr add_type(const char* name, std::uint64_t basicsize, std::uint64_t flags) {
    const Addr at = kTypes + 1024 * ++types_;
    object(at, type_type == 0 ? at : type_type, 0, ~0U);
    const auto& fields = layout().PyTypeObject;
    put(at + fields.tp_basicsize.offset, basicsize);
    put(at + fields.tp_flags.offset, flags | tp_flag::kReady);
    put(at + fields.tp_name.offset, at + 512);
    std::memcpy(&byte(at + 512), name, std::strlen(name));
    return at;
  }

  Addr heap(unsigned i) const {
    return thread + layout()._PyThreadStateImpl.mimalloc_heaps.offset + i * layout().mi_heap_s.size_bytes;
  }

  Addr segment() {
    const Addr at = kFirstSegment + kSegmentAlign * segments_++;
    add_memory(at, kSlices * kSlice, "");
    const auto& fields = layout().mi_segment_s;
    put(at + fields.cookie.offset, at ^ kCookie);
    put(at + fields.used.offset, 1);
    put(at + fields.segment_slices.offset, kSlices);
    put(at + fields.segment_info_slices.offset, 1);
    put(at + fields.slice_entries.offset, kSlices);
    next_slice_[at] = 1;
    put32(slice(at, 1), static_cast<std::uint32_t>(kSlices - 1));
    return at;
  }
  Addr slice(Addr segment, std::uint64_t index) const {
    return segment + layout().mi_segment_s.slices.offset + index * layout().mi_page_s.size_bytes;
  }

  // The segment's next slice becomes a page of the thread's heap of that number, or of a thread that is gone.
  Addr page(Addr segment, unsigned tag, std::uint32_t block_bytes, bool abandoned = false) {
    const auto& fields = layout().mi_page_s;
    const std::uint64_t index = next_slice_[segment]++;
    const Addr at = slice(segment, index);
    put32(at + fields.slice_count.offset, 1);
    put32(at + fields.block_size.offset, block_bytes);
    put16(at + fields.reserved.offset, static_cast<std::uint16_t>((kSlice - start_offset(block_bytes)) / block_bytes));
    byte(at + fields.tag.offset) = static_cast<unsigned char>(tag << 3 | 1);
    if (index + 1 < kSlices) put32(slice(segment, index + 1), static_cast<std::uint32_t>(kSlices - index - 1));
    if (abandoned) return at;
    put(at + fields.xheap.offset, heap(tag));
    const Addr count = heap(tag) + layout().mi_heap_s.page_count.offset;
    put(count, get(count) + 1);
    put(heap(tag) + layout().mi_heap_s.pages.offset + layout().mi_page_queue_s.first.offset, at);
    return at;
  }
  static std::uint64_t start_offset(std::uint64_t block_bytes) {
    return block_bytes <= 64 ? 3 * block_bytes : block_bytes <= 512 ? block_bytes : 0;
  }

  // Carves the page's next block.
  Addr block(Addr page) {
    const auto& fields = layout().mi_page_s;
    const Addr segment = align_down(page, kSegmentAlign);
    const std::uint64_t index = (page - slice(segment, 0)) / layout().mi_page_s.size_bytes;
    const auto bytes = static_cast<std::uint32_t>(get(page + fields.block_size.offset));
    const auto capacity = static_cast<std::uint16_t>(get(page + fields.capacity.offset));
    put16(page + fields.capacity.offset, static_cast<std::uint16_t>(capacity + 1));
    add_used(page, 1);
    return segment + index * kSlice + start_offset(bytes) + std::uint64_t{capacity} * bytes;
  }
  void add_used(Addr page, std::uint32_t n) {
    const Addr used = page + layout().mi_page_s.used.offset;
    put32(used, static_cast<std::uint32_t>(get(used)) + n);
  }
  // Hangs a block before the others of a list whose first is at `head`.
  void push(Addr head, Addr block) {
    put(block, get(head));
    put(head, block);
  }

  void object(Addr at, Addr type, std::uint8_t gc_bits, std::uint32_t local, std::int64_t shared = 0) {
    const auto& fields = layout().PyObject;
    byte(at + fields.ob_gc_bits.offset) = gc_bits;
    put32(at + fields.ob_ref_local.offset, local);
    put(at + fields.ob_ref_shared.offset, static_cast<std::uint64_t>(shared));
    put(at + fields.ob_type.offset, type);
  }

  PyRuntime runtime() {
    PyRuntime runtime;
    runtime.traits = traits_;
    runtime.type_type = type_type;
    runtime.interpreters.push_back({interpreter, 0, true, false});
    find_mimalloc(snapshot_ = snapshot(), runtime);
    return runtime;
  }
  const Snapshot& last_snapshot() const { return snapshot_; }

  Addr interpreter = kState;
  Addr thread = kState + 0xc0000;
  Addr type_type = 0;
  Addr float_type = 0;
  Addr set_type = 0;
  Addr node_type = 0;

 private:
  PyTraits traits_;
  Snapshot snapshot_;
  std::uint64_t segments_ = 0;
  std::uint64_t types_ = 0;
  std::map<Addr, std::uint64_t> next_slice_;
};

struct Use {
  ObmallocUse use;
  Findings findings;
};

Use use_of(FakeMimalloc& fake) {
  Use result;
  const PyRuntime runtime = fake.runtime();
  result.use = summarise_mimalloc(fake.last_snapshot(), runtime, result.findings);
  check_mi_heaps(fake.last_snapshot(), runtime, result.findings);
  return result;
}

TEST(Mimalloc, FindsSegmentsOfThreadsThatAreGoneToo) {
  FakeMimalloc fake;
  const Addr mine = fake.segment();
  fake.block(fake.page(mine, 1, 48));
  const Addr abandoned = fake.segment();
  fake.block(fake.page(abandoned, 2, 64, true));
  const Addr freed = fake.segment();
  fake.put(freed + fake.layout().mi_segment_s.used.offset, 0);
  const Addr foreign = fake.segment();
  fake.put(foreign + fake.layout().mi_segment_s.cookie.offset, 1234);
  const PyRuntime runtime = fake.runtime();
  ASSERT_TRUE(runtime.mimalloc);
  EXPECT_EQ(runtime.mimalloc->segments, (std::vector<Addr>{mine, abandoned}));
  EXPECT_EQ(runtime.mimalloc->heaps.size(), 4U);
}

TEST(Mimalloc, WithoutPagesThatKnowTheirHeapThereIsNone) {
  FakeMimalloc fake;
  const Addr page = fake.page(fake.segment(), 1, 48);
  fake.put(page + fake.layout().mi_page_s.xheap.offset, 0x1234);
  EXPECT_FALSE(fake.runtime().mimalloc);
}

TEST(Mimalloc, EveryListOfFreeBlocksIsFollowed) {
  FakeMimalloc fake;
  const auto& fields = fake.layout().mi_page_s;
  const Addr page = fake.page(fake.segment(), 1, 48);
  std::vector<Addr> blocks;
  for (int i = 0; i < 10; ++i) blocks.push_back(fake.block(page));
  fake.push(page + fields.free.offset, blocks[1]);
  fake.push(page + fields.free.offset, blocks[4]);
  fake.push(page + fields.local_free.offset, blocks[6]);
  fake.add_used(page, static_cast<std::uint32_t>(-3));  // what other threads freed still counts as used
  fake.put(blocks[7], 0);
  fake.put(page + fields.xthread_free.offset, blocks[7] | 2);
  fake.push(fake.heap(1) + fake.layout().mi_heap_s.thread_delayed_free.offset, blocks[8]);
  const Use result = use_of(fake);
  EXPECT_TRUE(result.findings.kept().empty()) << result.findings.kept()[0].detail;
  ASSERT_EQ(result.use.classes.size(), 1U);
  EXPECT_EQ(result.use.classes[0].block_bytes, 48U);
  EXPECT_EQ(result.use.classes[0].blocks_in_use, 5U);
  EXPECT_EQ(result.use.classes[0].blocks_free, (kSlice - 144) / 48 - 5);
  EXPECT_EQ(result.use.bytes, kSlices * kSlice);
  EXPECT_EQ(result.use.bytes_in_use, 5U * 48);
  EXPECT_EQ(result.use.bytes_free_pools, (kSlices - 2) * kSlice);
  EXPECT_EQ(result.use.bytes, result.use.bytes_in_use + result.use.bytes_free + result.use.bytes_overhead);
}

TEST(Mimalloc, DamageIsFoundAndEveryWalkEnds) {
  const auto found = [](std::string_view code, const auto& damage) {
    FakeMimalloc fake;
    const Addr segment = fake.segment();
    const Addr page = fake.page(segment, 1, 48);
    for (int i = 0; i < 4; ++i) fake.block(page);
    const Addr first = fake.block(page);
    fake.push(page + fake.layout().mi_page_s.free.offset, first);
    fake.add_used(page, static_cast<std::uint32_t>(-1));
    damage(fake, segment, page, first);
    const Use result = use_of(fake);
    EXPECT_EQ(result.findings.count(code), 1U) << code;
    const ObmallocUse& use = result.use;
    EXPECT_EQ(use.bytes, use.bytes_in_use + use.bytes_free + use.bytes_overhead + use.bytes_lost) << code;
  };
  const PyLayout layout = FakeMimalloc().layout();
  found("mimalloc-freelist-damaged", [](FakeMimalloc& f, Addr, Addr, Addr block) { f.put(block, block); });
  found("mimalloc-freelist-damaged", [](FakeMimalloc& f, Addr, Addr, Addr block) { f.put(block, 0x4141414141414141); });
  found("mimalloc-freelist-damaged", [](FakeMimalloc& f, Addr, Addr, Addr block) { f.put(block, block - 8); });
  found("mimalloc-count-disagrees", [](FakeMimalloc& f, Addr, Addr page, Addr) { f.add_used(page, 1); });
  found("mimalloc-page-damaged",
        [&](FakeMimalloc& f, Addr, Addr page, Addr) { f.put16(page + layout.mi_page_s.capacity.offset, 0xffff); });
  found("mimalloc-page-damaged",
        [&](FakeMimalloc& f, Addr, Addr page, Addr) { f.put32(page + layout.mi_page_s.block_size.offset, 7); });
  found("mimalloc-slice-damaged", [&](FakeMimalloc& f, Addr segment, Addr, Addr) { f.put32(f.slice(segment, 2), 0); });
  found("mimalloc-slice-damaged",
        [&](FakeMimalloc& f, Addr segment, Addr, Addr) { f.put32(f.slice(segment, 2), ~0U); });
  found("mimalloc-segment-damaged", [&](FakeMimalloc& f, Addr segment, Addr, Addr) {
    f.put(segment + layout.mi_segment_s.slice_entries.offset, 1 << 20);
  });
  found("mimalloc-delayed-damaged", [&](FakeMimalloc& f, Addr, Addr, Addr block) {
    f.put(block, block);
    f.put(f.heap(1) + layout.mi_heap_s.thread_delayed_free.offset, block);
  });
  found("mimalloc-heap-disagrees",
        [&](FakeMimalloc& f, Addr, Addr, Addr) { f.put(f.heap(1) + layout.mi_heap_s.page_count.offset, 7); });
}

TEST(Mimalloc, ASegmentCannotClaimTheWholeAddressSpace) {
  FakeMimalloc fake;
  const Addr segment = fake.segment();
  fake.block(fake.page(segment, 1, 48));
  fake.put(segment + fake.layout().mi_segment_s.segment_slices.offset, ~std::uint64_t{0});
  EXPECT_FALSE(fake.runtime().mimalloc);
}

TEST(Mimalloc, ObjectsAreCountedWhereTheirHeapHasThem) {
  FakeMimalloc fake;
  const Addr segment = fake.segment();
  const Addr raw = fake.page(segment, 0, 48);
  const Addr plain = fake.page(segment, 1, 48);
  const Addr gc = fake.page(segment, 2, 224);
  const Addr gc_pre = fake.page(segment, 3, 64);
  fake.object(fake.block(raw), fake.float_type, 0, 1);  // raw memory holds no object, whatever it looks like
  fake.object(fake.block(plain), fake.float_type, 0, 1);
  fake.object(fake.block(plain), fake.float_type, 0, 0);         // on a free list of the interpreter's
  fake.object(fake.block(plain), fake.float_type, 0, 0, 3);      // the same, its counts merged
  fake.object(fake.block(plain), fake.float_type, 0, 0, 4 | 3);  // all references are of other threads
  fake.object(fake.block(plain), fake.node_type, 0, 1);          // such an object is never here
  fake.object(fake.block(gc), fake.set_type, gc_bit::kTracked, 1);
  fake.object(fake.block(gc), fake.set_type, 0, 1);
  fake.object(fake.block(gc), fake.set_type, gc_bit::kTracked | gc_bit::kFrozen, 1);
  for (int i = 0; i < 3; ++i) fake.object(fake.block(gc_pre) + 16, fake.node_type, gc_bit::kTracked, ~0U);
  Process process;
  process.python.version = "3.13.5";
  process.python.runtime = fake.runtime();
  process.snapshot = fake.snapshot();
  Findings findings;
  const Census census = take_census(process, Progress::none(), findings);
  EXPECT_TRUE(findings.kept().empty()) << findings.kept()[0].detail;
  const auto of = [&](const std::string& name) {
    for (TypeId id = 0; id < census.by_type.size(); ++id) {
      if (census.types->info(id).name == name) return census.by_type[id];
    }
    return TypeTotals{};
  };
  EXPECT_EQ(of("float").all, (CountBytes{2, 80}));
  EXPECT_EQ(of("float").tracked.count, 0U);
  EXPECT_EQ(of("set").all.count, 3U);
  EXPECT_EQ(of("set").tracked.count, 1U);
  EXPECT_EQ(of("Node").all, (CountBytes{3, 3 * 48}));
  EXPECT_EQ(of("Node").tracked.count, 3U);
  EXPECT_EQ(census.pools.objects.count, 8U);
  EXPECT_EQ(census.pools.other.count, 4U);
}

TEST(Refcounts, AreTheSumOfBothParts) {
  const PyTraits traits = *traits_for({0x030d05f0, true, true});
  const auto count = [&](std::uint32_t local, std::int64_t shared, std::uint8_t gc_bits) {
    std::byte object[32] = {};
    const auto& fields = traits.layout->PyObject;
    std::memcpy(object + fields.ob_ref_local.offset, &local, 4);
    std::memcpy(object + fields.ob_ref_shared.offset, &shared, 8);
    std::memcpy(object + fields.ob_gc_bits.offset, &gc_bits, 1);
    return reference_count(traits, object);
  };
  EXPECT_EQ(count(3, 0, 0), 3);
  EXPECT_EQ(count(3, -4 + 1, 0), 2);
  EXPECT_EQ(count(0, 4 * 7 + 3, 0), 7);
  EXPECT_EQ(count(2, (traits.deferred_refs + 1) * 4, gc_bit::kDeferred), 3);
  EXPECT_EQ(count(UINT32_MAX, 0, gc_bit::kDeferred), UINT32_MAX) << "immortal";
}

}  // namespace
}  // namespace heapcore::testing

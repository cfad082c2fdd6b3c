#include "sound_heap.h"

#include <tbb/global_control.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <tuple>

namespace heapcore::fuzz {
namespace {

constexpr std::size_t kRecordBytes = 12;
constexpr std::size_t kMostRecords = 8;

struct SoundHeap {
  Process process;
  damage::Sites all;
  std::vector<damage::Site> sites;  // those that the target wants

  // Unpacked from a compressed core, the bytes are this process's own to write.
  std::span<std::byte> bytes() {
    const std::span<const std::byte> file = process.snapshot.storage.front().bytes();
    return {const_cast<std::byte*>(file.data()), file.size()};
  }
};

SoundHeap& sound_heap(const HeapTarget& target, unsigned choice) {
  static std::map<const char*, std::unique_ptr<SoundHeap>> heaps;
  const char* name = target.cores[choice % target.cores.size()];
  std::unique_ptr<SoundHeap>& heap = heaps[name];
  if (heap != nullptr) return *heap;
  TargetName core;
  core.core = std::string(HEAPCORE_SOURCE_DIR "/testdata/") + name;
  core.files.sysroot = "/nonexistent";
  Timings timings;
  Result<Process> process = open_target(core, Progress::none(), timings);
  promise(process.ok(), "the sound core can be opened");
  heap = std::make_unique<SoundHeap>();
  heap->process = std::move(*process);
  heap->all = damage::find_sites(heap->bytes(), heap->process);
  for (const damage::Group group : damage::kGroups) {
    for (const damage::Site& site : heap->all.of(group)) {
      if (group != damage::Group::kPages && target.wants(group, site.name)) heap->sites.push_back(site);
    }
  }
  promise(!heap->sites.empty(), "the sound core has what the target damages");
  return *heap;
}

struct Record {
  std::uint16_t site = 0;
  std::uint16_t place = 0;
  std::uint64_t value = 0;
};

Record read_record(Bytes bytes) {
  Record record;
  std::memcpy(&record.site, bytes.data(), 2);
  std::memcpy(&record.place, bytes.data() + 2, 2);
  std::memcpy(&record.value, bytes.data() + 4, 8);
  return record;
}

void write_record(const Record& record, std::uint8_t* out) {
  std::memcpy(out, &record.site, 2);
  std::memcpy(out + 2, &record.place, 2);
  std::memcpy(out + 4, &record.value, 8);
}

const HeapTarget* current = nullptr;

}  // namespace

void run_damaged(const HeapTarget& target, Bytes input) {
  static const tbb::global_control one_thread(tbb::global_control::max_allowed_parallelism, 1);
  current = &target;
  if (input.empty()) return;
  SoundHeap& heap = sound_heap(target, static_cast<unsigned>(input[0]));
  const std::span<std::byte> bytes = heap.bytes();
  std::vector<std::tuple<std::uint64_t, std::size_t, std::uint64_t>> was;  // offset, width, value
  std::vector<Addr> damaged;
  const std::size_t records = std::min(kMostRecords, (input.size() - 1) / kRecordBytes);
  for (std::size_t i = 0; i < records; ++i) {
    const Record record = read_record(input.subspan(1 + i * kRecordBytes, kRecordBytes));
    const damage::Site& site = heap.sites[record.site % heap.sites.size()];
    const damage::Place& place = site.places[record.place % site.places.size()];
    const std::size_t width = std::min<std::size_t>(place.width_bytes, 8);
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data() + place.offset, width);
    was.emplace_back(place.offset, width, value);
    std::memcpy(bytes.data() + place.offset, &record.value, width);
    damaged.push_back(place.base);
  }
  // What refers to them meets the damage from outside.
  for (std::size_t i = 0; i < heap.all.objects.size(); i += std::max<std::size_t>(1, heap.all.objects.size() / 8))
    damaged.push_back(heap.all.objects[i]);
  target.run(heap.process, damaged);
  for (auto it = was.rbegin(); it != was.rend(); ++it)
    std::memcpy(bytes.data() + std::get<0>(*it), &std::get<2>(*it), std::get<1>(*it));
}

}  // namespace heapcore::fuzz

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size)
    __attribute__((weak));

// One more record, or another in the place of one; or what libFuzzer would do.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned int seed);
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned int seed) {
  using namespace heapcore;
  using namespace heapcore::fuzz;
  damage::Random random(seed);
  if (current == nullptr || random.below(4) == 0) return LLVMFuzzerMutate(data, size, max_size);
  max_size = std::min(max_size, 1 + kMostRecords * kRecordBytes);
  if (max_size < 1 + kRecordBytes) return LLVMFuzzerMutate(data, size, max_size);
  if (size == 0) data[0] = static_cast<std::uint8_t>(random.next());
  std::size_t records = size == 0 ? 0 : std::min((size - 1) / kRecordBytes, kMostRecords);
  const bool append = records == 0 || (records < (max_size - 1) / kRecordBytes && random.below(3) == 0);
  const std::size_t at = append ? records++ : random.below(records);
  const SoundHeap& heap = sound_heap(*current, data[0]);
  Record record;
  record.site = static_cast<std::uint16_t>(random.below(heap.sites.size()));
  const damage::Site& site = heap.sites[record.site];
  record.place = static_cast<std::uint16_t>(random.below(site.places.size()));
  const damage::Place& place = site.places[record.place];
  std::memcpy(&record.value, heap.process.snapshot.storage.front().bytes().data() + place.offset,
              std::min<std::size_t>(place.width_bytes, 8));
  record.value = damage::odd_value(heap.all, site, place, record.value, random);
  write_record(record, data + 1 + at * kRecordBytes);
  return 1 + records * kRecordBytes;
}

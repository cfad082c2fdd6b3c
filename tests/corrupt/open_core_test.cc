// Opens thousands of damaged cores in this process: fields driven to their extremes, bytes flipped, files cut off.
// Whatever the damage, open_core() ends soon, within a limit on memory, and what it returns keeps the promises of
// snapshot.h.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <ctime>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "core_builder.h"
#include "coreparse/core_file.h"
#include "coreparse/snapshot.h"

#if defined(__SANITIZE_ADDRESS__)
#define HEAPCORE_UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HEAPCORE_UNDER_ASAN 1
#endif
#endif

namespace heapcore {
namespace {

using testing::Bytes;
using testing::CoreBuilder;
using testing::TempFile;

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kExtraMemoryBytes = std::uint64_t{1} << 30;

// No damage may make heapcore take more than this above what the test itself has; beyond, std::bad_alloc fails the
// test.
class MemoryLimit : public ::testing::Environment {
 public:
  void SetUp() override {
#ifndef HEAPCORE_UNDER_ASAN
    std::uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlimit limit{pages * kPage + kExtraMemoryBytes, RLIM_INFINITY};
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &limit), 0);
#endif
  }
};
const auto* const kMemoryLimit = ::testing::AddGlobalTestEnvironment(new MemoryLimit);

double cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Whether every byte said to be present can be read, at the ends of each segment where an error would show.
void touch(const Segment& segment) {
  volatile std::byte last = segment.bytes[segment.size_bytes() - 1];
  last = segment.bytes[0];
  static_cast<void>(last);
}

void expect_promises(const Snapshot& snapshot) {
  std::uint64_t mapped = 0;
  Addr covered = 0;
  for (const Mapping& mapping : snapshot.mappings) {
    ASSERT_LT(mapping.start, mapping.end);
    ASSERT_GE(mapping.start, covered);
    covered = mapping.end;
    mapped += mapping.size_bytes();
  }
  ASSERT_EQ(snapshot.mapped_bytes(), mapped);
  covered = 0;
  for (const Segment& segment : snapshot.space.segments()) {
    ASSERT_LT(segment.start, segment.end);
    ASSERT_GE(segment.start, covered);
    covered = segment.end;
    mapped -= segment.size_bytes();
    ASSERT_NE(snapshot.mapping_at(segment.start), nullptr);
    ASSERT_EQ(segment.bytes != nullptr, segment.state == ByteState::kPresent);
    if (segment.bytes != nullptr) touch(segment);
  }
  ASSERT_EQ(mapped, 0U);
  ASSERT_LT(snapshot.findings.kept().size(), 1000U);
  for (const Module& module : snapshot.modules) {
    module.build_id_hex();
    if (module.elf == nullptr) module.symbol("main_arena", snapshot.space);
  }
}

// A core in a file, damaged in place and mended again.
class Damaged {
 public:
  explicit Damaged(Bytes bytes) : bytes_(std::move(bytes)), file_(bytes_) {
    for (int i = 0; i < 5; ++i) open();
    undamaged_seconds_ = slowest_;
    slowest_ = 0;
  }
  ~Damaged() {
    // Processor time, so that a busy machine does not matter.
    EXPECT_LT(slowest_, 20 * undamaged_seconds_ + 0.25);
    ::testing::Test::RecordProperty("cores", static_cast<int>(opened_));
    ::testing::Test::RecordProperty("slowest_us", static_cast<int>(slowest_ * 1e6));
  }
  Damaged(const Damaged&) = delete;
  Damaged& operator=(const Damaged&) = delete;

  const Bytes& bytes() const { return bytes_; }
  template <typename T>
  T get(std::size_t offset) const {
    T value{};
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }

  // Changes are collected by put(), tried by open(), and undone by mend().
  void put(std::size_t offset, std::string_view bytes) {
    ASSERT_LE(offset + bytes.size(), bytes_.size());
    changes_.push_back({offset, bytes.size()});
    write(offset, bytes);
  }
  template <typename T>
  void put_value(std::size_t offset, T value) {
    put(offset, testing::bytes_of(value));
  }
  void mend() {
    for (const auto& [offset, n] : changes_) write(offset, std::string_view(bytes_).substr(offset, n));
    changes_.clear();
  }
  void cut(std::size_t n) { ASSERT_EQ(::truncate(file_.path().c_str(), static_cast<off_t>(n)), 0); }
  void uncut() { file_.write(bytes_); }

  void open() {
    const double before = cpu_seconds();
    const Result<Snapshot> snapshot = open_core(file_.path(), {}, Progress::none());
    if (snapshot) {
      expect_promises(*snapshot);
    } else {
      EXPECT_FALSE(snapshot.error().message.empty());
    }
    slowest_ = std::max(slowest_, cpu_seconds() - before);
    ++opened_;
  }
  template <typename T>
  void try_value(std::size_t offset, T value) {
    put_value(offset, value);
    open();
    mend();
  }
  void try_extremes64(std::size_t offset) {
    const auto value = get<std::uint64_t>(offset);
    for (const std::uint64_t extreme :
         {std::uint64_t{0}, std::uint64_t{1}, value - 1, value + 1, value ^ (std::uint64_t{1} << 63), value + kPage,
          bytes_.size(), std::uint64_t{1} << 47, (std::uint64_t{1} << 63) - 1, ~std::uint64_t{0},
          ~std::uint64_t{0} - kPage}) {
      if (extreme != value) try_value(offset, extreme);
      if (::testing::Test::HasFailure()) return;
    }
  }
  void try_extremes32(std::size_t offset) {
    const auto value = get<std::uint32_t>(offset);
    for (const std::uint32_t extreme :
         {0U, 1U, value - 1, value + 1, value ^ 0x80000000U, 0x7fffffffU, ~0U, ~0U - 3, 4U}) {
      if (extreme != value) try_value(offset, extreme);
      if (::testing::Test::HasFailure()) return;
    }
  }

 private:
  void write(std::size_t offset, std::string_view bytes) const {
    std::fstream out(file_.path(), std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(static_cast<std::streamoff>(offset)).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

  Bytes bytes_;
  TempFile file_;
  std::vector<std::pair<std::size_t, std::size_t>> changes_;
  double undamaged_seconds_ = 0;
  double slowest_ = 0;
  std::size_t opened_ = 0;
};

Bytes sample() {
  Findings findings;
  const Result<Image> image =
      read_core_file(HEAPCORE_SOURCE_DIR "/testdata/leaky_worker.core.zst", findings, Progress::none());
  if (!image) return {};
  return {reinterpret_cast<const char*>(image->bytes().data()), image->bytes().size()};
}

// A few pages, with everything that opening a core looks at: notes, a module with its headers and tables in memory.
Bytes small_core(bool with_file_list) {
  const Bytes program = testing::read_file("/proc/self/exe").substr(0, 4 * kPage);
  CoreBuilder core;
  core.thread(1, {}, 6).thread(2);
  core.add_note("CORE", NT_PRPSINFO, testing::prpsinfo(1, "name", "command line"));
  core.add_note("CORE", NT_AUXV,
                testing::auxv({{AT_PHDR, 0x400040}, {AT_RANDOM, 0x7ffc0010}, {AT_SYSINFO_EHDR, 0x7ffd0000}}));
  core.add_note("LINUX", 0x205, Bytes(64, '\1'));
  if (with_file_list) {
    core.files({{0x400000, 0x404000, 0, "/proc/self/exe"},
                {0x404000, 0x410000, 4, "/proc/self/exe"},
                {0x500000, 0x501000, 0, "/x"}});
  }
  core.load(0x400000, program)
      .load(0x7ffc0000, testing::pattern(kPage, 1), 2 * kPage)
      .load(0x7ffd0000, program.substr(0, kPage));
  return core.bytes();
}

class OpenDamaged : public ::testing::TestWithParam<const char*> {
 protected:
  Bytes core() const {
    const std::string_view which = GetParam();
    return which == "sample" ? sample() : small_core(which == "small");
  }
  static std::size_t header_offset(std::size_t index) { return sizeof(Elf64_Ehdr) + index * sizeof(Elf64_Phdr); }
  static std::size_t header_count(const Damaged& core) { return core.get<Elf64_Half>(offsetof(Elf64_Ehdr, e_phnum)); }
  static Elf64_Phdr notes_of(const Damaged& core) {
    for (std::size_t i = 0; i < header_count(core); ++i) {
      const auto header = core.get<Elf64_Phdr>(header_offset(i));
      if (header.p_type == PT_NOTE) return header;
    }
    return {};
  }
};

TEST_P(OpenDamaged, ElfHeader) {
  Damaged core(this->core());
  ASSERT_FALSE(core.bytes().empty());
  for (std::size_t at = 0; at < sizeof(Elf64_Ehdr); ++at) {
    for (const int value : {0x00, 0x01, 0x02, 0x38, 0x40, 0x7f, 0x80, 0xff})
      core.try_value(at, static_cast<char>(value));
  }
  for (const std::size_t at :
       {offsetof(Elf64_Ehdr, e_entry), offsetof(Elf64_Ehdr, e_phoff), offsetof(Elf64_Ehdr, e_shoff)}) {
    core.try_extremes64(at);
  }
  // PN_XNUM with a section header 0 that is anything: the file's beginning, or behind its end.
  for (const std::uint64_t section : {std::uint64_t{0}, std::uint64_t{64}, core.bytes().size() - 64,
                                      core.bytes().size() - 1, core.bytes().size(), ~std::uint64_t{0} - 63}) {
    core.put_value(offsetof(Elf64_Ehdr, e_phnum), Elf64_Half{PN_XNUM});
    core.put_value(offsetof(Elf64_Ehdr, e_shoff), section);
    core.put_value(offsetof(Elf64_Ehdr, e_shnum), Elf64_Half{1});
    core.put_value(offsetof(Elf64_Ehdr, e_shentsize), Elf64_Half{sizeof(Elf64_Shdr)});
    core.open();
    core.mend();
  }
}

TEST_P(OpenDamaged, ProgramHeaders) {
  Damaged core(this->core());
  ASSERT_FALSE(core.bytes().empty());
  for (std::size_t i = 0; i < header_count(core); ++i) {
    SCOPED_TRACE(i);
    for (std::size_t field = 0; field < sizeof(Elf64_Phdr); field += 8) {
      SCOPED_TRACE(field);
      if (field == 0) {
        core.try_extremes32(header_offset(i));
      } else if (field != offsetof(Elf64_Phdr, p_paddr)) {
        core.try_extremes64(header_offset(i) + field);
      }
      ASSERT_FALSE(HasFailure());
    }
  }
}

TEST_P(OpenDamaged, Notes) {
  Damaged core(this->core());
  ASSERT_FALSE(core.bytes().empty());
  const Elf64_Phdr notes = notes_of(core);
  std::size_t at = notes.p_offset;
  while (at + sizeof(Elf64_Nhdr) <= notes.p_offset + notes.p_filesz) {
    SCOPED_TRACE(at);
    const auto header = core.get<Elf64_Nhdr>(at);
    const std::size_t description = at + sizeof header + align_up(header.n_namesz, 4);
    for (const std::size_t field : {0, 4, 8}) core.try_extremes32(at + field);
    if (header.n_type == NT_FILE) {
      const auto count = core.get<std::uint64_t>(description);
      for (std::uint64_t i = 0; i < 2 + 3 * count; ++i) core.try_extremes64(description + i * 8);
    }
    ASSERT_FALSE(HasFailure());
    at = description + align_up(header.n_descsz, 4);
  }
  for (std::size_t i = 0; i < notes.p_filesz; ++i) {
    SCOPED_TRACE(i);
    core.try_value(notes.p_offset + i, static_cast<char>(core.bytes()[notes.p_offset + i] ^ (1 << i % 8)));
    ASSERT_FALSE(HasFailure());
  }
}

TEST_P(OpenDamaged, CutOff) {
  Damaged core(this->core());
  ASSERT_FALSE(core.bytes().empty());
  std::vector<std::size_t> lengths;
  for (std::size_t n = 0; n < 400; ++n) lengths.push_back(n);
  const auto boundary = [&](std::size_t at) { lengths.insert(lengths.end(), {at - 1, at, at + 1}); };
  for (std::size_t i = 0; i < header_count(core); ++i) {
    const auto header = core.get<Elf64_Phdr>(header_offset(i));
    boundary(header_offset(i));
    boundary(header.p_offset);
    boundary(header.p_offset + header.p_filesz);
  }
  const Elf64_Phdr notes = notes_of(core);
  for (std::size_t n = 0; n < notes.p_filesz; n += 7) lengths.push_back(notes.p_offset + n);
  std::mt19937_64 random(5);
  for (int i = 0; i < 300; ++i) lengths.push_back(random() % core.bytes().size());
  // Only ever shorter, and so never written anew.
  std::sort(lengths.rbegin(), lengths.rend());
  for (const std::size_t n : lengths) {
    if (n >= core.bytes().size()) continue;
    SCOPED_TRACE(n);
    core.cut(n);
    core.open();
    ASSERT_FALSE(HasFailure());
  }
}

// Many changes at once, in the headers, the notes and the first page of each mapping, where modules have theirs.
TEST_P(OpenDamaged, ManyPlaces) {
  Damaged core(this->core());
  ASSERT_FALSE(core.bytes().empty());
  std::vector<std::pair<std::size_t, std::size_t>> places;
  places.emplace_back(offsetof(Elf64_Ehdr, e_phoff), sizeof(Elf64_Ehdr) - offsetof(Elf64_Ehdr, e_phoff));
  places.emplace_back(header_offset(0), header_count(core) * sizeof(Elf64_Phdr));
  const Elf64_Phdr notes = notes_of(core);
  places.emplace_back(notes.p_offset, notes.p_filesz);
  for (std::size_t i = 0; i < header_count(core); ++i) {
    const auto header = core.get<Elf64_Phdr>(header_offset(i));
    if (header.p_type != PT_LOAD || header.p_filesz == 0) continue;
    if (core.bytes().compare(header.p_offset, 4, ELFMAG) != 0) continue;
    for (int weight = 0; weight < 4; ++weight) places.emplace_back(header.p_offset, 1024);
  }
  std::mt19937_64 random(6);
  for (int round = 0; round < 2000; ++round) {
    SCOPED_TRACE(round);
    for (std::uint64_t i = 0; i <= random() % 6; ++i) {
      const auto& [start, n] = places[random() % places.size()];
      const std::size_t at = start + random() % n / 8 * 8;
      if (at + 8 > core.bytes().size()) continue;
      const auto value = core.get<std::uint64_t>(at);
      const std::uint64_t choices[] = {random(),          0,
                                       ~std::uint64_t{0}, value ^ (std::uint64_t{1} << random() % 64),
                                       value + kPage,     core.get<std::uint64_t>(start + random() % (n / 8) * 8)};
      core.put_value(at, choices[random() % std::size(choices)]);
    }
    core.open();
    core.mend();
    ASSERT_FALSE(HasFailure());
  }
}

INSTANTIATE_TEST_SUITE_P(Cores, OpenDamaged, ::testing::Values("sample", "small", "small_without_file_list"),
                         [](const auto& which) { return std::string(which.param); });

// Cores that are not damaged but made to be expensive.
Bytes many_headers_core(std::size_t headers, std::size_t loads, bool with_file_list) {
  // One ELF header with as many program headers as fit, mapped again and again.
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_machine = EM_X86_64;
  header.e_type = ET_DYN;
  header.e_phoff = sizeof header;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = static_cast<Elf64_Half>(headers);
  Bytes module = testing::bytes_of(header);
  const Elf64_Phdr segment{PT_LOAD, PF_R, 0, 0, 0, std::uint64_t{1} << 40, std::uint64_t{1} << 40, kPage};
  for (std::size_t i = 0; i < headers; ++i) module += testing::bytes_of(segment);
  module.resize(align_up(module.size(), kPage));

  CoreBuilder core;
  core.thread(1).load(0x10000000, module);
  std::vector<testing::FileEntry> files;
  for (std::size_t i = 1; i < loads; ++i) {
    const Addr start = 0x10000000 + i * align_up(module.size(), kPage);
    core.load(start, "", module.size());
    if (with_file_list) files.push_back({start, start + module.size(), 0, "/nonexistent"});
  }
  if (with_file_list) core.files(files);
  Bytes bytes = core.bytes();
  for (std::size_t i = 2; i <= loads; ++i) {
    const std::size_t at = sizeof(Elf64_Ehdr) + i * sizeof(Elf64_Phdr);
    const std::uint64_t offset = core.load_offset(0);
    const std::uint64_t size = module.size();
    std::memcpy(bytes.data() + at + offsetof(Elf64_Phdr, p_offset), &offset, 8);
    std::memcpy(bytes.data() + at + offsetof(Elf64_Phdr, p_filesz), &size, 8);
  }
  return bytes;
}

TEST(OpenHostile, ModulesWithoutEndTakeNeitherTimeNorMemory) {
  for (const bool with_file_list : {false, true}) {
    SCOPED_TRACE(with_file_list);
    const TempFile file(many_headers_core(65534, 20000, with_file_list));
    const double before = cpu_seconds();
    const Result<Snapshot> snapshot = open_core(file.path(), {}, Progress::none());
    ASSERT_TRUE(snapshot);
    expect_promises(*snapshot);
    EXPECT_LT(cpu_seconds() - before, 5);
  }
}

}  // namespace
}  // namespace heapcore

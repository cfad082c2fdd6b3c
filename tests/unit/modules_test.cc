// Modules of made-up cores whose contents come from real ELF files of this machine: which file is used, and which
// never.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "core_builder.h"
#include "coreparse/snapshot.h"

namespace heapcore {
namespace {

using testing::Bytes;
using testing::CoreBuilder;
using testing::FileEntry;
using testing::TempFile;

constexpr std::uint64_t kPage = 4096;
constexpr Addr kBase = 0x7f0000000000;
constexpr Addr kProgramBase = 0x560000000000;

// Exported by every glibc; none is chosen at run time (STT_GNU_IFUNC), so each has one address.
constexpr const char* kNames[] = {"qsort",  "fopen", "getenv", "mallopt",   "malloc_trim", "environ",
                                  "stdout", "exit",  "printf", "setlocale", "regexec",     "malloc_info"};

std::string libc_path() {
  Dl_info info{};
  ::dladdr(reinterpret_cast<const void*>(&::qsort), &info);
  return std::filesystem::canonical(info.dli_fname).string();
}

Addr libc_base() {
  Dl_info info{};
  ::dladdr(reinterpret_cast<const void*>(&::qsort), &info);
  return reinterpret_cast<Addr>(info.dli_fbase);
}

// libc's own definition: of data that the test itself refers to, the program has a copy of its own.
Addr dlsym_address(const char* name) {
  static void* libc = ::dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  return reinterpret_cast<Addr>(::dlsym(libc, name));
}

// What the kernel maps of an ELF file, as its program headers say.
class ElfImage {
 public:
  struct Part {
    Addr start = 0;
    Bytes contents;
    std::uint64_t offset = 0;
    std::uint32_t flags = 0;
    bool writable() const { return (flags & PF_W) != 0; }
  };

  ElfImage(const std::string& path, Addr base) : path_(path), file_(testing::read_file(path)) {
    const auto header = at<Elf64_Ehdr>(0);
    for (int i = 0; i < header.e_phnum; ++i) {
      const auto segment = at<Elf64_Phdr>(header.e_phoff + static_cast<std::size_t>(i) * sizeof(Elf64_Phdr));
      if (segment.p_type == PT_DYNAMIC) dynamic_ = base + segment.p_vaddr;
      if (segment.p_type == PT_DYNAMIC) dynamic_bytes_ = segment.p_filesz;
      if (segment.p_type != PT_LOAD) continue;
      Part part;
      part.offset = align_down(segment.p_offset, kPage);
      part.start = base + align_down(segment.p_vaddr, kPage);
      part.flags = segment.p_flags;
      const Addr end = base + align_up(segment.p_vaddr + segment.p_memsz, kPage);
      part.contents = file_.substr(part.offset, align_up(segment.p_offset + segment.p_filesz, kPage) - part.offset);
      if (part.writable()) part.contents.resize(segment.p_offset + segment.p_filesz - part.offset);  // .bss is zero
      part.contents.resize(end - part.start);
      parts_.push_back(std::move(part));
    }
  }

  const std::string& path() const { return path_; }
  std::vector<Part>& parts() { return parts_; }
  Addr dynamic() const { return dynamic_; }
  std::uint64_t dynamic_bytes() const { return dynamic_bytes_; }

  template <typename T>
  void put(Addr address, const T& value) {
    for (Part& part : parts_) {
      if (address < part.start || address - part.start >= part.contents.size()) continue;
      std::memcpy(part.contents.data() + (address - part.start), &value, sizeof value);
    }
  }
  // Changes an entry of the dynamic section, as ld.so does.
  void put_dynamic(std::int64_t tag, std::uint64_t value) {
    for (Part& part : parts_) {
      if (dynamic_ < part.start || dynamic_ >= part.start + part.contents.size()) continue;
      for (std::size_t i = dynamic_ - part.start;; i += sizeof(Elf64_Dyn)) {
        Elf64_Dyn entry;
        std::memcpy(&entry, part.contents.data() + i, sizeof entry);
        if (entry.d_tag == DT_NULL) return;
        if (entry.d_tag == tag) std::memcpy(part.contents.data() + i + 8, &value, sizeof value);
      }
    }
  }

  std::vector<FileEntry> entries(const std::string& path) const {
    std::vector<FileEntry> list;
    for (const Part& part : parts_) {
      list.push_back({part.start, part.start + part.contents.size(), part.offset / kPage, path});
    }
    return list;
  }

 private:
  template <typename T>
  T at(std::size_t offset) const {
    T value;
    std::memcpy(&value, file_.data() + offset, sizeof value);
    return value;
  }

  std::string path_;
  Bytes file_;
  std::vector<Part> parts_;
  Addr dynamic_ = 0;
  std::uint64_t dynamic_bytes_ = 0;
};

enum class Dump { kLikeTheKernel, kWritableOnly, kAll };

void add(CoreBuilder& core, ElfImage& image, Dump dump) {
  bool first = true;
  for (const ElfImage::Part& part : image.parts()) {
    const bool all = dump == Dump::kAll || part.writable();
    const std::size_t headers = first && dump == Dump::kLikeTheKernel ? kPage : 0;  // coredump_filter's bit 4
    core.load(part.start, all ? part.contents : part.contents.substr(0, headers), part.contents.size(), part.flags);
    first = false;
  }
}

Result<Snapshot> open_built(CoreBuilder& core, const OpenOptions& options = {}) {
  const TempFile file(core.bytes());
  return open_core(file.path(), options, Progress::none());
}

CoreBuilder core_of(ElfImage& image, const std::string& path, Dump dump) {
  CoreBuilder core;
  core.thread(7).files(image.entries(path));
  add(core, image, dump);
  return core;
}

const Module& only_module(const Snapshot& snapshot) {
  EXPECT_EQ(snapshot.modules.size(), 1U);
  return snapshot.modules.front();
}

void expect_text_from_file(const Snapshot& snapshot, ElfImage& image) {
  for (const ElfImage::Part& part : image.parts()) {
    const Segment* last = snapshot.space.find(part.start + part.contents.size() - 1);
    ASSERT_NE(last, nullptr);
    EXPECT_EQ(last->from_file, !part.writable());
    Bytes found(part.contents.size(), '\0');
    Reader reader(snapshot.space);
    ASSERT_TRUE(reader.read(part.start, {reinterpret_cast<std::byte*>(found.data()), found.size()}));
    EXPECT_TRUE(found == part.contents) << std::hex << part.start;
  }
}

void expect_symbols(const Snapshot& snapshot, const Module& module, Addr base) {
  for (const char* name : kNames) {
    const auto symbol = module.symbol(name, snapshot.space);
    ASSERT_TRUE(symbol) << name;
    EXPECT_EQ(symbol->address - base, dlsym_address(name) - libc_base()) << name;
    EXPECT_GT(symbol->size_bytes, 0U) << name;
  }
  EXPECT_FALSE(module.symbol("no_such_symbol_at_all", snapshot.space));
  EXPECT_FALSE(module.symbol("", snapshot.space));
  EXPECT_FALSE(module.symbol("qsor", snapshot.space));
}

TEST(Modules, AFileOfTheSameBuildIdFillsWhatWasNotDumped) {
  ElfImage libc(libc_path(), kBase);
  CoreBuilder core = core_of(libc, libc.path(), Dump::kLikeTheKernel);
  const Result<Snapshot> snapshot = open_built(core);
  ASSERT_TRUE(snapshot);
  const Module& module = only_module(*snapshot);
  EXPECT_EQ(module.match, FileMatch::kBuildId);
  EXPECT_EQ(module.file, libc.path());
  EXPECT_EQ(module.path, libc.path());
  EXPECT_EQ(module.mismatch, "");
  EXPECT_EQ(module.load_bias, kBase);
  EXPECT_GE(module.build_id.size(), 8U);
  EXPECT_EQ(module.build_id_hex().size(), 2 * module.build_id.size());
  EXPECT_EQ(snapshot->module_named("libc.so"), &module);
  EXPECT_EQ(snapshot->module_at(kBase + 12345), &module);
  EXPECT_EQ(snapshot->module_at(kBase - 1), nullptr);
  expect_text_from_file(*snapshot, libc);
  expect_symbols(*snapshot, module, kBase);
  const auto text = module.section(".text");
  ASSERT_TRUE(text);
  EXPECT_TRUE(text->contains(kBase + (dlsym_address("qsort") - libc_base())));
  EXPECT_FALSE(module.section(".no-such-section"));
  EXPECT_FALSE(snapshot->findings.incomplete());
  for (const Mapping& mapping : snapshot->mappings) EXPECT_EQ(mapping.not_dumped_bytes, 0U);
}

TEST(Modules, AFileOfAnotherBuildIdIsNotUsed) {
  ElfImage libc(libc_path(), kBase);
  Bytes other = testing::read_file(libc_path());
  CoreBuilder plain = core_of(libc, libc.path(), Dump::kLikeTheKernel);
  const Result<Snapshot> right = open_built(plain);
  ASSERT_TRUE(right);
  const std::vector<std::byte>& id = right->modules.front().build_id;
  const std::size_t at = other.find(Bytes(reinterpret_cast<const char*>(id.data()), id.size()));
  ASSERT_NE(at, Bytes::npos);
  other[at + id.size() - 1] ^= 1;
  const TempFile file(other);
  CoreBuilder core = core_of(libc, file.path(), Dump::kLikeTheKernel);
  const Result<Snapshot> snapshot = open_built(core);
  ASSERT_TRUE(snapshot);
  const Module& module = only_module(*snapshot);
  EXPECT_EQ(module.match, FileMatch::kNone);
  EXPECT_EQ(module.file, "");
  EXPECT_EQ(module.build_id, id);
  EXPECT_NE(module.mismatch.find("build-id"), std::string::npos) << module.mismatch;
  EXPECT_EQ(snapshot->findings.count("file-not-used"), 1U);
  EXPECT_FALSE(snapshot->findings.incomplete());
  EXPECT_EQ(snapshot->space.state(kBase + kPage), ByteState::kNotDumped);
  EXPECT_FALSE(module.section(".text"));
}

TEST(Modules, TheDynamicSectionProvesAFileWhereTheCoreHasNoBuildId) {
  ElfImage libc(libc_path(), kBase);
  CoreBuilder core = core_of(libc, libc.path(), Dump::kWritableOnly);
  const Result<Snapshot> snapshot = open_built(core);
  ASSERT_TRUE(snapshot);
  EXPECT_EQ(only_module(*snapshot).match, FileMatch::kDynamicSection);
  EXPECT_TRUE(snapshot->modules.front().build_id.empty());
  expect_text_from_file(*snapshot, libc);
  expect_symbols(*snapshot, snapshot->modules.front(), kBase);

  // One entry that differs is enough to refuse it.
  libc.put_dynamic(DT_STRSZ, 12345);
  CoreBuilder changed = core_of(libc, libc.path(), Dump::kWritableOnly);
  const Result<Snapshot> refused = open_built(changed);
  ASSERT_TRUE(refused);
  EXPECT_EQ(only_module(*refused).match, FileMatch::kNone);
  EXPECT_NE(refused->modules.front().mismatch, "");
  EXPECT_EQ(refused->findings.count("file-not-used"), 1U);
  EXPECT_EQ(refused->space.state(kBase), ByteState::kNotDumped);
}

TEST(Modules, WhatIsNoLongerTheFilesIsNotFilledFromIt) {
  ElfImage libc(libc_path(), kBase);
  std::vector<FileEntry> files = libc.entries(libc.path());
  FileEntry& text = files[1];
  FileEntry rest = text;
  text.end = text.start + 4 * kPage;
  rest.start = text.end + 4 * kPage;  // a hole of one page, and three of another file
  rest.page_offset += 8;
  const FileEntry other{text.end + kPage, rest.start, 0, "/nonexistent/other"};
  const Addr hole = text.end;
  files.insert(files.begin() + 2, {other, rest});
  CoreBuilder core;
  core.thread(7).files(files);
  core.load(libc.parts()[0].start, libc.parts()[0].contents.substr(0, kPage), libc.parts()[0].contents.size(), PF_R);
  const Result<Snapshot> snapshot = open_built(core);
  ASSERT_TRUE(snapshot);
  ASSERT_NE(snapshot->module_named("libc.so"), nullptr);
  EXPECT_EQ(snapshot->module_named("libc.so")->match, FileMatch::kBuildId);
  EXPECT_EQ(snapshot->space.state(hole - 1), ByteState::kPresent);
  EXPECT_EQ(snapshot->space.state(hole), ByteState::kUnmapped);
  EXPECT_EQ(snapshot->space.state(other.start), ByteState::kNotDumped);
  EXPECT_EQ(snapshot->space.state(rest.start - 1), ByteState::kNotDumped);
  EXPECT_EQ(snapshot->space.state(rest.start), ByteState::kPresent);
}

TEST(Modules, ExeAndSysrootSayWhereTheFilesAre) {
  ElfImage program("/proc/self/exe", kProgramBase);
  CoreBuilder core;
  core.thread(7).files(program.entries("/nonexistent/program"));
  core.add_note("CORE", NT_AUXV, testing::auxv({{AT_PHDR, kProgramBase + sizeof(Elf64_Ehdr)}}));
  add(core, program, Dump::kLikeTheKernel);

  const Result<Snapshot> without = open_built(core);
  ASSERT_TRUE(without);
  EXPECT_EQ(without->info.executable, "/nonexistent/program");
  EXPECT_EQ(without->executable()->file, "");
  EXPECT_EQ(without->executable()->mismatch, "");

  const Result<Snapshot> exe = open_built(core, {"/proc/self/exe", ""});
  ASSERT_TRUE(exe);
  ASSERT_NE(exe->executable(), nullptr);
  EXPECT_EQ(exe->executable()->match, FileMatch::kBuildId);
  EXPECT_EQ(exe->executable()->path, "/nonexistent/program");

  const Result<Snapshot> wrong = open_built(core, {libc_path(), ""});
  ASSERT_TRUE(wrong);
  EXPECT_EQ(wrong->executable()->match, FileMatch::kNone);
  EXPECT_EQ(wrong->findings.count("file-not-used"), 1U);

  const TempFile place;
  const std::filesystem::path root = place.path() + ".root";
  std::filesystem::create_directories(root / "nonexistent");
  std::filesystem::create_symlink("/proc/self/exe", root / "nonexistent/program");
  const Result<Snapshot> sysroot = open_built(core, {"", root.string()});
  std::filesystem::remove_all(root);
  ASSERT_TRUE(sysroot);
  EXPECT_EQ(sysroot->executable()->match, FileMatch::kBuildId);
  EXPECT_EQ(sysroot->executable()->file, (root / "nonexistent/program").string());
}

TEST(Modules, SymbolsComeFromMemoryWhereThereIsNoFile) {
  ElfImage libc(libc_path(), kBase);
  CoreBuilder core = core_of(libc, "/nonexistent/libc.so.6", Dump::kAll);
  const Result<Snapshot> snapshot = open_built(core);
  ASSERT_TRUE(snapshot);
  EXPECT_EQ(only_module(*snapshot).match, FileMatch::kNone);
  expect_symbols(*snapshot, snapshot->modules.front(), kBase);
  // Thread-local, and so at no one address.
  EXPECT_FALSE(snapshot->modules.front().symbol("errno", snapshot->space));
}

// This very process's libc: relocated by ld.so, its text not dumped, its path changed so that no file can help.
TEST(Modules, SymbolsOfThisProcessAreThoseOfDlsym) {
  const std::string path = libc_path();
  CoreBuilder core;
  std::vector<FileEntry> files;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (!line.ends_with(path)) continue;
    std::uint64_t start = 0;
    std::uint64_t end = 0;
    std::uint64_t offset = 0;
    char mode[5] = {};
    ASSERT_EQ(std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64, &start, &end, mode, &offset), 4);
    files.push_back({start, end, offset / kPage, "/nonexistent/libc.so.6"});
    const bool wanted = mode[0] == 'r' && mode[2] == '-';
    core.load(start, wanted ? Bytes(reinterpret_cast<const char*>(start), end - start) : "", end - start);
  }
  core.thread(7).files(files);
  const Result<Snapshot> snapshot = open_built(core);
  ASSERT_TRUE(snapshot);
  EXPECT_EQ(only_module(*snapshot).load_bias, libc_base());
  expect_symbols(*snapshot, snapshot->modules.front(), libc_base());
}

// gdb writes the list of files last, so a core that was cut short has none; ld.so's own list is in memory.
class WithoutFileList : public ::testing::Test {
 protected:
  static constexpr Addr kList = 0x10000;
  struct Entry {
    Addr l_addr, l_name, l_ld, l_next, l_prev;
  };

  WithoutFileList() : program_("/proc/self/exe", kProgramBase), libc_(libc_path(), kBase) {
    program_.put_dynamic(DT_DEBUG, kList);
    put(0, std::uint64_t{1});  // r_version
    put(8, kList + 0x100);     // r_map
    put(0x100, Entry{kProgramBase, kList + 0x300, program_.dynamic(), kList + 0x200, 0});
    put(0x200, Entry{kBase, kList + 0x310, libc_.dynamic(), 0, kList + 0x100});
    libc_.path().copy(list_.data() + 0x310, libc_.path().size());
  }

  template <typename T>
  void put(std::size_t offset, const T& value) {
    std::memcpy(list_.data() + offset, &value, sizeof value);
  }
  Result<Snapshot> open(const OpenOptions& options = {}) {
    CoreBuilder core;
    core.thread(7).load(kList, list_);
    add(core, program_, Dump::kAll);
    add(core, libc_, Dump::kAll);
    return open_built(core, options);
  }

  ElfImage program_;
  ElfImage libc_;
  Bytes list_ = Bytes(kPage, '\0');
};

TEST_F(WithoutFileList, ModulesAreNamedByLdSo) {
  const Result<Snapshot> snapshot = open({"/proc/self/exe", ""});
  ASSERT_TRUE(snapshot);
  EXPECT_EQ(snapshot->findings.count("core-no-file-list"), 1U);
  ASSERT_EQ(snapshot->modules.size(), 2U);
  EXPECT_TRUE(snapshot->modules[0].is_executable);
  EXPECT_EQ(snapshot->modules[0].match, FileMatch::kBuildId);
  EXPECT_EQ(snapshot->executable(), &snapshot->modules[0]);
  EXPECT_FALSE(snapshot->modules[1].is_executable);
  EXPECT_EQ(snapshot->modules[1].path, libc_.path());
  EXPECT_EQ(snapshot->modules[1].match, FileMatch::kBuildId);
  for (const Module& module : snapshot->modules) {
    const ElfImage& image = module.is_executable ? program_ : libc_;
    const FileEntry last = image.entries("").back();
    EXPECT_EQ(module.range.start, image.entries("").front().start);
    EXPECT_EQ(module.range.end, last.end);
    EXPECT_EQ(snapshot->mapping_at(last.start)->file_offset, last.page_offset * kPage);
  }
}

TEST_F(WithoutFileList, AListThatGoesRoundEnds) {
  put(0x200, Entry{kBase, kList + 0x310, libc_.dynamic(), kList + 0x100, kList + 0x100});
  const Result<Snapshot> snapshot = open();
  ASSERT_TRUE(snapshot);
  EXPECT_NE(snapshot->module_named("libc.so"), nullptr);
}

TEST_F(WithoutFileList, SonamesDoWhereTheListIsGone) {
  put(8, std::uint64_t{0});
  const Result<Snapshot> snapshot = open();
  ASSERT_TRUE(snapshot);
  ASSERT_NE(snapshot->executable(), nullptr);
  EXPECT_EQ(snapshot->executable()->range.start, kProgramBase);
  EXPECT_EQ(snapshot->mapping_at(kBase)->path, "[libc.so.6]");
}

}  // namespace
}  // namespace heapcore

// The malloc room against malloc itself: testdata/programs/malloc_shapes.c makes a heap, writes malloc_info and
// mallinfo2, and stands still; heapcore opens the process and must count the same, exactly. Then the program trims, and
// its resident memory must drop as forecast.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <thread>

#include "glibc_heap/census.h"
#include "glibc_heap/locate.h"

extern char** environ;

namespace heapcore {
namespace {

namespace fs = std::filesystem;

int run(std::vector<std::string> arguments, int standard_output, pid_t& pid) {
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (standard_output >= 0) posix_spawn_file_actions_adddup2(&actions, standard_output, 1);
  const int error = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

class Folder {
 public:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "heapcore-shapes-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~Folder() { fs::remove_all(path_); }
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

// Compiles the program once; empty if there is no C compiler.
const std::string& shapes_program(const Folder& folder) {
  static const std::string program = [&]() -> std::string {
    const std::string source = (fs::path(__FILE__).parent_path() / "../../testdata/programs/malloc_shapes.c").string();
    const std::string out = folder / "malloc_shapes";
    pid_t pid = 0;
    int status = 1;
    if (run({"cc", "-O1", "-pthread", source, "-o", out}, -1, pid) == 0) waitpid(pid, &status, 0);
    return status == 0 ? out : "";
  }();
  return program;
}

std::string text_of(const fs::path& file) {
  std::ifstream in(file);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::uint64_t value(const std::string& text, const std::string& pattern) {
  std::smatch match;
  return std::regex_search(text, match, std::regex(pattern)) ? std::stoull(match[1]) : 0;
}

class Shape {
 public:
  Shape(const std::string& program, const std::string& mode, const Folder& folder) : output_(folder / (mode + ".out")) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return;
    if (run({program, mode, output_.string()}, ends[1], pid_) != 0) pid_ = 0;
    close(ends[1]);
    char line[8];
    ready_ = pid_ != 0 && read(ends[0], line, 6) == 6;
    close(ends[0]);
  }
  ~Shape() {
    if (pid_ == 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  bool ready() const { return ready_; }
  pid_t pid() const { return pid_; }
  std::string said() const { return text_of(output_); }
  // Lets it trim; returns how much its resident memory dropped.
  std::uint64_t trim() const {
    kill(pid_, SIGUSR1);
    const fs::path file = output_.string() + ".trim";
    for (int i = 0; i < 3000; ++i) {
      const std::string text = text_of(file);
      if (text.find("after") != text.npos && text.ends_with('\n')) {
        return value(text, "before ([0-9]+)") - value(text, "after ([0-9]+)");
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << "it did not trim";
    return 0;
  }

 private:
  fs::path output_;
  pid_t pid_ = 0;
  bool ready_ = false;
};

std::vector<std::string> heaps_of(const std::string& said) {
  std::vector<std::string> heaps;
  for (std::size_t start = said.find("<heap nr"); start != said.npos; start = said.find("<heap nr", start + 1)) {
    heaps.push_back(said.substr(start, said.find("</heap>", start) - start));
  }
  return heaps;
}

void expect_arena(const std::string& said, const Arena& arena) {
  const ArenaTotals& totals = arena.totals;
  EXPECT_EQ(value(said, R"re(<system type="current" size="(\d+)")re"), arena.system_bytes);
  EXPECT_EQ(value(said, R"re(<system type="max" size="(\d+)")re"), arena.max_system_bytes);
  EXPECT_EQ(value(said, R"re(<total type="fast" count="(\d+)")re"), totals.of(ChunkState::kFast).count);
  EXPECT_EQ(value(said, R"re(<total type="fast" count="\d+" size="(\d+)")re"), totals.of(ChunkState::kFast).bytes);
  EXPECT_EQ(value(said, R"re(<unsorted [^>]*count="(\d+)")re"), totals.of(ChunkState::kUnsorted).count);
  CountBytes rest;
  for (const ChunkState state : {ChunkState::kUnsorted, ChunkState::kSmall, ChunkState::kLarge, ChunkState::kTop}) {
    rest += totals.of(state);
  }
  EXPECT_EQ(value(said, R"re(<total type="rest" count="(\d+)")re"), rest.count);
  // It adds up size fields with their PREV_INUSE bit, which every chunk in a bin has set; not top's.
  EXPECT_EQ(value(said, R"re(<total type="rest" count="\d+" size="(\d+)")re"), rest.bytes + rest.count - 1);
  std::uint64_t sum = totals.overhead_bytes;
  for (const CountBytes& kind : totals.by_state) sum += kind.bytes;
  EXPECT_EQ(sum, arena.system_bytes);
  EXPECT_EQ(totals.lost_bytes, 0u);
}

class MallocShapes : public ::testing::TestWithParam<const char*> {
 protected:
  static void SetUpTestSuite() { folder_ = new Folder; }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  static Folder* folder_;
};
Folder* MallocShapes::folder_ = nullptr;

TEST_P(MallocShapes, CountsAsMallocDoes) {
  const std::string& program = shapes_program(*folder_);
  if (program.empty()) GTEST_SKIP() << "no C compiler";
  const std::string mode = GetParam();
  const Shape shape(program, mode, *folder_);
  ASSERT_TRUE(shape.ready());
  const Result<Snapshot> snapshot = open_process(shape.pid(), {}, Progress::none());
  ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
  Findings findings;
  HeapSearch search = find_heap(*snapshot, findings);
  ASSERT_TRUE(search.heap) << search.why_not;
  Heap& heap = *search.heap;
  find_mmapped(*snapshot, {}, heap, findings);
  count_chunks(*snapshot, heap, findings);
  check_bins(*snapshot, heap, findings);
  EXPECT_FALSE(findings.incomplete()) << findings.kept().front().code << findings.kept().front().detail;

  const std::string said = shape.said();
  const std::vector<std::string> heaps = heaps_of(said);
  ASSERT_EQ(heaps.size(), heap.arenas.size());
  ArenaTotals total;
  for (std::size_t i = 0; i < heaps.size(); ++i) {
    SCOPED_TRACE("arena " + std::to_string(i));
    expect_arena(heaps[i], heap.arenas[i]);
    total += heap.arenas[i].totals;
  }
  EXPECT_EQ(value(said, "\nhblks ([0-9]+)"), heap.mmapped_total().count);
  if (heap.traits.mmapped == MmappedRule::kSizeFillsMapping) {  // since 2.43 malloc's own sum drifts
    EXPECT_EQ(value(said, "\nhblkhd ([0-9]+)"), heap.mmapped_total().bytes);
  }
  EXPECT_EQ(value(said, "\nfordblks ([0-9]+)"), total.free().bytes - total.of(ChunkState::kTcache).bytes);
  EXPECT_EQ(value(said, "\nuordblks ([0-9]+)"),
            total.of(ChunkState::kInUse).bytes + total.of(ChunkState::kTcache).bytes + total.overhead_bytes);
  if (mode == "threads") {
    EXPECT_EQ(heap.tcaches.size(), snapshot->threads.size());
  }
  // Seven of each of nine sizes.
  if (mode == "small" && heap.layout_version == "2.36") {
    EXPECT_EQ(total.of(ChunkState::kTcache).count, 63u);
  }

  const std::uint64_t drop = shape.trim();
  EXPECT_GE(total.trim_bytes(), total.trim_nonzero_bytes);
  const double allowed = std::max(65536.0, 0.01 * static_cast<double>(drop));
  EXPECT_NEAR(static_cast<double>(total.trim_nonzero_bytes), static_cast<double>(drop), allowed);
}

INSTANTIATE_TEST_SUITE_P(Modes, MallocShapes,
                         ::testing::Values("single", "small", "mmapped", "peak", "holes", "threads", "finished",
                                           "split", "blocked", "aligned"),
                         [](const auto& parameter) { return std::string(parameter.param); });

}  // namespace
}  // namespace heapcore

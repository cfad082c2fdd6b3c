// heapcore_campaign [--mutants N] [--seed S] [--jobs J] [--only I] CORE...
//
// Damages sound cores, one thing at a time, runs every command's work on each mutant in a process of its own, and
// tabulates what came of it: crashes, hangs, memory, whether the damage was named, and how much of the undamaged truth
// was still said. The same arguments make the same mutants; --only runs one of them, by its number, and says more.
//
// A mutant is a crash if its process dies of a signal or an exception; a hang if it takes more than 10 times the
// processor time of the undamaged core, and at least kLeastSeconds; too large if it needs more than 4 times its memory.
// What is over a limit is run again twice, and counts if it is so each time. Any of these ends with exit status 1.
#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <tbb/global_control.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <fstream>
#include <optional>
#include <set>

#include "coreparse/core_file.h"
#include "damage.h"
#include "every_command.h"

namespace heapcore::damage {
namespace {

constexpr double kTimesSeconds = 10;
constexpr double kTimesMemory = 4;
constexpr double kLeastSeconds = 0.5;  // below this an interruption is most of what is measured
constexpr unsigned kWallSeconds = 120;
constexpr rlim_t kAddressSpaceBytes = rlim_t{8} << 30;
constexpr int kDiffEvery = 16;  // diff's other half is as much work as all the rest

struct Arguments {
  std::uint64_t mutants = 400;
  std::uint64_t seed = 1;
  int jobs = 2;
  std::optional<std::uint64_t> only;
  std::vector<std::string> cores;
};

// What one mutant's process leaves; in memory that it shares with its parent.
struct Outcome {
  char phase[64];
  char wrong[96];
  bool finished;
  bool refused;  // it is no core any more
  bool seen;     // a finding that the undamaged core has not
  bool named;    // one with the address of what was damaged, or near it
  double share;  // of the objects, how many are still counted by their types
  std::uint64_t kib;
  double seconds;
  int status;  // as wait() has it
};

// A file in memory, mapped to be written.
class MemoryFile {
 public:
  explicit MemoryFile(std::span<const std::byte> contents) : bytes_(contents.size()) {
    fd_ = memfd_create("heapcore-mutant", MFD_CLOEXEC);
    if (fd_ < 0 || ftruncate(fd_, static_cast<off_t>(bytes_)) != 0) std::abort();
    void* at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (at == MAP_FAILED) std::abort();
    data_ = static_cast<std::byte*>(at);
    // Pages of zeros stay holes.
    constexpr std::size_t kPage = 4096;
    for (std::size_t i = 0; i < bytes_; i += kPage) {
      const std::span<const std::byte> page = contents.subspan(i, std::min(kPage, bytes_ - i));
      if (std::any_of(page.begin(), page.end(), [](std::byte b) { return b != std::byte{0}; }))
        std::memcpy(data_ + i, page.data(), page.size());
    }
  }
  ~MemoryFile() {
    munmap(data_, bytes_);
    close(fd_);
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::span<std::byte> bytes() { return {data_, bytes_}; }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  std::size_t bytes_;
  int fd_ = -1;
  std::byte* data_ = nullptr;
};

Result<Process> open_core_at(const std::string& path) {
  TargetName target;
  target.core = path;
  target.files.sysroot = "/nonexistent";  // none of this machine's files are the target's
  target.malloc_layout = LayoutSource::kTables;
  Timings timings;
  return open_target(target, Progress::none(), timings);
}

// "VmHWM:" in KiB.
std::uint64_t status_kib(const char* field) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(field)) return std::strtoull(line.c_str() + std::strlen(field), nullptr, 10);
  return 0;
}

using FindingId = std::pair<std::string_view, Addr>;

std::set<FindingId> findings_of(const Process& process) {
  std::set<FindingId> ids;
  for (const Finding& finding : process.findings.kept()) ids.insert({finding.code, finding.address});
  return ids;
}

// One core and what is true of it.
class Campaign {
 public:
  Campaign(const Arguments& arguments, const std::string& path) : arguments_(arguments) {
    name_ = path.substr(path.find_last_of('/') + 1);
    Findings findings;
    Result<Image> image = read_core_file(path, findings, Progress::none());
    if (!image) {
      std::fprintf(stderr, "%s\n", image.error().message.c_str());
      std::exit(2);
    }
    sound_.emplace(image->bytes());
    Result<Process> process = open_core_at(sound_->path());
    if (!process) {
      std::fprintf(stderr, "%s\n", process.error().message.c_str());
      std::exit(2);
    }
    process_ = std::move(*process);
    sites_ = find_sites(process_.snapshot.storage.front().bytes(), process_);
    const Answers answers = run_every_command(process_, sample_addresses({}), nullptr, [](const char*) {});
    true_types_ = answers.types;
    true_findings_ = findings_of(process_);
    malloc_trim(0);
  }

  const std::string& name() const { return name_; }
  // The same commands on the undamaged core.
  const Outcome& undamaged(std::uint64_t index) const { return undamaged_[with_diff(index) ? 1 : 0]; }

  // Of every mutant its outcome, in order.
  std::vector<Outcome> run(std::uint64_t mutants) {
    const std::size_t bytes = (mutants + 1) * sizeof(Outcome);
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) std::abort();
    auto* outcomes = static_cast<Outcome*>(at);
    measure_undamaged(outcomes[mutants]);
    std::fflush(nullptr);
    std::vector<pid_t> workers;
    for (int job = 0; job < arguments_.jobs; ++job) {
      const pid_t pid = fork();
      if (pid == 0) {
        MemoryFile file(sound_->bytes());
        for (std::uint64_t i = static_cast<std::uint64_t>(job); i < mutants;
             i += static_cast<std::uint64_t>(arguments_.jobs))
          if (!arguments_.only || i == *arguments_.only) run_one(i, file, outcomes[i]);
        _exit(0);
      }
      workers.push_back(pid);
    }
    for (const pid_t pid : workers) waitpid(pid, nullptr, 0);
    std::vector<Outcome> result(outcomes, outcomes + mutants);
    munmap(at, bytes);
    return result;
  }

  Damage damage_of(std::uint64_t index) const {
    Random random = random_of(index);
    return choose_damage(sites_, process_.snapshot.storage.front().bytes(), random);
  }

  double limit_seconds(std::uint64_t index) const {
    return std::max(kLeastSeconds, kTimesSeconds * undamaged(index).seconds);
  }
  std::uint64_t limit_kib(std::uint64_t index) const {
    return static_cast<std::uint64_t>(kTimesMemory * static_cast<double>(undamaged(index).kib));
  }
  bool over(std::uint64_t index, const Outcome& outcome) const {
    return outcome.seconds > limit_seconds(index) || outcome.kib > limit_kib(index);
  }

 private:
  static bool with_diff(std::uint64_t index) { return index % kDiffEvery == 0; }

  Random random_of(std::uint64_t index) const {
    std::uint64_t mixed = arguments_.seed;
    for (const char c : name_) mixed = mixed * 131 + static_cast<unsigned char>(c);
    return Random(mixed * 0x9e3779b97f4a7c15ULL + index * 0xd1342543de82ef95ULL);
  }

  std::vector<Addr> sample_addresses(const Damage& damage) const {
    std::vector<Addr> addresses = {damage.where.start, damage.where.start + 16};
    const std::size_t step = std::max<std::size_t>(1, sites_.objects.size() / 8);
    for (std::size_t i = 0; i < sites_.objects.size(); i += step) addresses.push_back(sites_.objects[i]);
    return addresses;
  }

  void measure_undamaged(Outcome& outcome) {
    MemoryFile file(sound_->bytes());
    for (std::uint64_t i = 0; i < 6; ++i) {
      Outcome& best = undamaged_[i % 2];
      run_child({}, i % 2 == 0 ? 1 : 0, file, outcome);
      if (!outcome.finished) {
        std::fprintf(stderr, "%s, undamaged: %s, status %d\n", name_.c_str(), outcome.phase, outcome.status);
        std::exit(2);
      }
      if (i < 2 || outcome.seconds < best.seconds) best = outcome;
    }
  }

  void run_one(std::uint64_t index, MemoryFile& file, Outcome& outcome) {
    const Damage damage = damage_of(index);
    Outcome least{};
    for (int tries = 0; tries < 3; ++tries) {
      apply(damage, file.bytes());
      run_child(damage, index, file, outcome);
      undo(damage, sound_->bytes(), file.bytes());
      if (tries == 0 || outcome.seconds < least.seconds) least = outcome;
      if (!over(index, least) && least.finished) break;
    }
    outcome = least;
  }

  void run_child(const Damage& damage, std::uint64_t index, MemoryFile& file, Outcome& outcome) {
    outcome = {};
    outcome.share = 1;
    const pid_t pid = fork();
    if (pid == 0) {
      if (!arguments_.only) {
        const int null = open("/dev/null", O_WRONLY);
        dup2(null, STDERR_FILENO);
      }
      limit_child(index);
      child(damage, index, file, outcome);
      _exit(0);
    }
    rusage used{};
    wait4(pid, &outcome.status, 0, &used);
    const auto seconds = [](const timeval& time) {
      return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
    };
    outcome.seconds = seconds(used.ru_utime) + seconds(used.ru_stime);
  }

  void limit_child(std::uint64_t index) const {
    const rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
#ifndef HEAPCORE_SANITIZED
    const rlimit memory = {kAddressSpaceBytes, kAddressSpaceBytes};
    setrlimit(RLIMIT_AS, &memory);
#endif
    const double most = undamaged(index).seconds == 0 ? 60 : 2 * limit_seconds(index);
    itimerval timer{};
    timer.it_value.tv_sec = static_cast<time_t>(most) + 1;
    setitimer(ITIMER_PROF, &timer, nullptr);  // of processor time; ends the process
    alarm(kWallSeconds);
    std::ofstream("/proc/self/clear_refs") << "5";  // the peak of its memory begins anew
  }

  void child(const Damage& damage, std::uint64_t index, MemoryFile& file, Outcome& outcome) {
    const auto entering = [&](const char* phase) {
      std::snprintf(outcome.phase, sizeof outcome.phase, "%s", phase);
      if (arguments_.only)
        std::fprintf(stderr, "%8.3f s  %s\n", static_cast<double>(std::clock()) / CLOCKS_PER_SEC, phase);
    };
    const std::uint64_t kib_before = status_kib("VmRSS:");
    entering("open");
    std::optional<MemoryFile> cut;
    if (damage.file_bytes) cut.emplace(file.bytes().first(*damage.file_bytes));
    Result<Process> process = open_core_at(cut ? cut->path() : file.path());
    if (!process) {
      outcome.refused = true;
      outcome.finished = !process.error().message.empty();
      return;
    }
    // diff's own half of the memory is the other core's.
    Process* older = with_diff(index) ? &process_ : nullptr;
    const Answers answers = run_every_command(*process, sample_addresses(damage), older, entering);
    std::snprintf(outcome.wrong, sizeof outcome.wrong, "%s", answers.wrong.c_str());
    compare(damage, *process, answers, outcome);
    outcome.kib = status_kib("VmHWM:") - kib_before;
    outcome.finished = true;
  }

  void compare(const Damage& damage, const Process& process, const Answers& answers, Outcome& outcome) const {
    constexpr std::uint64_t kNear = 4096;
    for (const FindingId& id : findings_of(process)) {
      if (true_findings_.contains(id)) continue;
      outcome.seen = true;
      if (id.second != 0 && damage.where.start != 0 && id.second + kNear > damage.where.start &&
          id.second < damage.where.end + kNear)
        outcome.named = true;
    }
    std::uint64_t right = 0;
    std::uint64_t all = 0;
    for (const auto& [type, count] : true_types_) {
      const auto it = answers.types.find(type);
      const std::uint64_t said = it == answers.types.end() ? 0 : it->second;
      right += std::min(count, said);
      all += std::max(count, said);
    }
    for (const auto& [type, count] : answers.types)
      if (!true_types_.contains(type)) all += count;
    if (all != 0) outcome.share = static_cast<double>(right) / static_cast<double>(all);
  }

  const Arguments& arguments_;
  std::string name_;
  std::optional<MemoryFile> sound_;
  Process process_;
  Sites sites_;
  std::map<std::string, std::uint64_t> true_types_;
  std::set<FindingId> true_findings_;
  Outcome undamaged_[2] = {};  // without and with diff
};

struct Row {
  std::uint64_t mutants = 0;
  std::uint64_t crashes = 0;
  std::uint64_t hangs = 0;
  std::uint64_t too_large = 0;
  std::uint64_t wrong = 0;
  std::uint64_t refused = 0;
  std::uint64_t seen = 0;
  std::uint64_t named = 0;
  std::vector<double> shares;
  double most_times_seconds = 0;
  double most_times_memory = 0;

  std::uint64_t bad() const { return crashes + hangs + too_large + wrong; }

  void add(const Campaign& campaign, std::uint64_t index, const Outcome& outcome) {
    ++mutants;
    const bool hung = outcome.seconds > campaign.limit_seconds(index);
    hangs += hung ? 1 : 0;
    crashes += !outcome.finished && !hung ? 1 : 0;
    too_large += outcome.kib > campaign.limit_kib(index) ? 1 : 0;
    wrong += outcome.wrong[0] != 0 ? 1 : 0;
    refused += outcome.refused ? 1 : 0;
    seen += outcome.seen || outcome.refused ? 1 : 0;
    named += outcome.named ? 1 : 0;
    if (!outcome.refused && outcome.finished) shares.push_back(outcome.share);
    most_times_seconds = std::max(most_times_seconds, outcome.seconds / campaign.undamaged(index).seconds);
    most_times_memory = std::max(most_times_memory,
                                 static_cast<double>(outcome.kib) / static_cast<double>(campaign.undamaged(index).kib));
  }

  void print(const std::string& name) {
    std::sort(shares.begin(), shares.end());
    double sum = 0;
    for (const double share : shares) sum += share;
    const auto percent = [](double part, double whole) { return whole == 0 ? 0 : 100 * part / whole; };
    const auto whole = static_cast<double>(mutants);
    const double mean = percent(sum, static_cast<double>(shares.size()));
    const double tenth = shares.empty() ? 0 : 100 * shares[shares.size() / 10];
    std::printf("| %s | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | %" PRIu64
                " | %.1fx | %.1fx | %.0f %% | %.0f %% | %.0f %% | %.1f %% | %.1f %% |\n",
                name.c_str(), mutants, crashes, hangs, too_large, wrong, most_times_seconds, most_times_memory,
                percent(static_cast<double>(refused), whole), percent(static_cast<double>(seen), whole),
                percent(static_cast<double>(named), whole), mean, tenth);
  }
};

void print_head(const char* of) {
  std::printf(
      "\n| %s | mutants | crashes | hangs | too large | wrong | longest | largest | refused | seen | named | right | "
      "right, worst tenth |\n"
      "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
      of);
}

void complain(const Campaign& campaign, std::uint64_t index, const Outcome& outcome) {
  const Damage damage = campaign.damage_of(index);
  std::printf("%s, mutant %" PRIu64 ": %s, %s: %s, at %#" PRIx64 ": %s", campaign.name().c_str(), index,
              group_name(damage.group), damage.site.c_str(), damage.what.c_str(), damage.where.start,
              outcome.finished ? "finished" : outcome.phase);
  if (outcome.refused) std::printf(", refused");
  if (WIFSIGNALED(outcome.status)) std::printf(", signal %d", WTERMSIG(outcome.status));
  std::printf(", %.3f s (undamaged %.3f s), %" PRIu64 " KiB (undamaged %" PRIu64 " KiB), %.1f %% right%s%s\n",
              outcome.seconds, campaign.undamaged(index).seconds, outcome.kib, campaign.undamaged(index).kib,
              100 * outcome.share, outcome.wrong[0] != 0 ? ", " : "", outcome.wrong);
  std::fflush(stdout);
}

int run(const Arguments& arguments) {
  std::vector<Row> by_group(std::size(kGroups));
  std::vector<std::pair<std::string, Row>> by_core;
  Row total;
  for (std::size_t n = 0; n < arguments.cores.size(); ++n) {
    Campaign campaign(arguments, arguments.cores[n]);
    std::uint64_t mutants =
        arguments.mutants / arguments.cores.size() + (n < arguments.mutants % arguments.cores.size() ? 1 : 0);
    if (arguments.only) mutants = std::max(mutants, *arguments.only + 1);
    const std::vector<Outcome> outcomes = campaign.run(mutants);
    Row of_core;
    for (std::uint64_t i = 0; i < mutants; ++i) {
      if (arguments.only && i != *arguments.only) continue;
      Row one;
      one.add(campaign, i, outcomes[i]);
      if (one.bad() != 0 || arguments.only) complain(campaign, i, outcomes[i]);
      for (Row* row : {&by_group[static_cast<std::size_t>(campaign.damage_of(i).group)], &of_core, &total})
        row->add(campaign, i, outcomes[i]);
    }
    by_core.emplace_back(campaign.name(), std::move(of_core));
    std::fprintf(stderr, "%s: %" PRIu64 " mutants, %.3f s and %" PRIu64 " KiB undamaged\n", campaign.name().c_str(),
                 mutants, campaign.undamaged(1).seconds, campaign.undamaged(1).kib);
  }
  print_head("damaged");
  for (const Group group : kGroups) by_group[static_cast<std::size_t>(group)].print(group_name(group));
  total.print("all");
  print_head("core");
  for (auto& [name, row] : by_core) row.print(name);
  return total.bad() == 0 ? 0 : 1;
}

std::optional<Arguments> parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto number = [&] { return ++i < argc ? std::strtoull(argv[i], nullptr, 10) : 0; };
    if (word == "--mutants") {
      arguments.mutants = number();
    } else if (word == "--seed") {
      arguments.seed = number();
    } else if (word == "--jobs") {
      arguments.jobs = std::max(1, static_cast<int>(number()));
    } else if (word == "--only") {
      arguments.only = number();
    } else if (word.starts_with("--")) {
      return std::nullopt;
    } else {
      arguments.cores.push_back(word);
    }
  }
  if (arguments.cores.empty()) return std::nullopt;
  return arguments;
}

}  // namespace
}  // namespace heapcore::damage

int main(int argc, char** argv) {
  const std::optional<heapcore::damage::Arguments> arguments = heapcore::damage::parse(argc, argv);
  if (!arguments) {
    std::fprintf(stderr, "usage: %s [--mutants N] [--seed S] [--jobs J] [--only I] CORE...\n", argv[0]);
    return 2;
  }
  // One thread: a process that forks must have no other.
  const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, 1);
  return heapcore::damage::run(*arguments);
}

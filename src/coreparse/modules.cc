#include "coreparse/modules.h"

#include <elf.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "coreparse/elf_file.h"
#include "coreparse/memory_elf.h"
#include "coreparse/module_names.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr const char* kDebugRoot = "/usr/lib/debug";

// DT_* entries whose value is an address; ld.so adds the load bias to some of them in place.
bool values_agree(const ElfDynamic& file, std::uint64_t memory_value, Addr bias) {
  // DT_DEBUG is written by ld.so; DT_NULL padding never gets here.
  return file.tag == DT_DEBUG || memory_value == file.value || memory_value == file.value + bias;
}

bool dynamic_section_agrees(const ElfFile& file, Addr bias, Reader& reader) {
  const std::vector<ElfDynamic>& entries = file.dynamic();
  if (entries.size() < 8) return false;  // too little to prove anything
  Addr at = bias + file.dynamic_range().start;
  for (const ElfDynamic& entry : entries) {
    const auto memory = reader.load<ElfDynamic>(at);
    if (!memory || memory->tag != entry.tag || !values_agree(entry, memory->value, bias)) return false;
    at += sizeof(ElfDynamic);
  }
  return true;
}

std::vector<std::string> candidate_files(const Snapshot& snapshot, const Module& module, const Mapping& first,
                                         const OpenOptions& options) {
  std::vector<std::string> result;
  if (module.is_executable && !options.exe.empty()) result.push_back(options.exe);
  if (module.path == kUnknownExecutable) return result;
  if (!options.sysroot.empty()) {
    // A sysroot stands for the other machine: what lies here at the same path is another one's, and is not even tried.
    result.push_back(options.sysroot + module.path);
    if (snapshot.info.kind == TargetKind::kCore) return result;
  }
  if (snapshot.info.kind == TargetKind::kProcess) {
    // The kernel's own links to the mapped inode are right even in another root, or when the path was replaced since.
    // Only root may follow the first; the second is the main program's alone.
    result.push_back(fmt::format("/proc/{}/map_files/{:x}-{:x}", snapshot.info.pid, first.start, first.end));
    if (module.is_executable) result.push_back(fmt::format("/proc/{}/exe", snapshot.info.pid));
    result.push_back(fmt::format("/proc/{}/root{}", snapshot.info.pid, module.path));
  }
  result.push_back(module.path);  // what is there now is checked like any other
  return result;
}

// The load bias that a file would have if `mapping` is a mapping of it; nothing if no segment of it lies there.
std::optional<Addr> bias_of(const ElfFile& file, const Mapping& mapping) {
  for (const ElfLoad& load : file.loads()) {
    if (align_down(load.offset, kPageBytes) == mapping.file_offset) {
      return mapping.start - align_down(load.vaddr, kPageBytes);
    }
  }
  return std::nullopt;
}

class ModuleFinder {
 public:
  ModuleFinder(Snapshot& snapshot, const OpenOptions& options, std::uint16_t machine)
      : snapshot_(snapshot), options_(options), machine_(machine), reader_(snapshot.space) {}

  void run() {
    for (const std::vector<const Mapping*>& group : groups()) add(group);
    for (Module& module : snapshot_.modules) {
      attach_file(module);
      find_debug_file(module);
    }
    snapshot_.space.overlay(std::move(extra_));
    std::sort(snapshot_.modules.begin(), snapshot_.modules.end(),
              [](const Module& a, const Module& b) { return a.range.start < b.range.start; });
  }

 private:
  // One group for each loaded copy of a file: its mappings in address order, beginning with file offset 0.
  std::vector<std::vector<const Mapping*>> groups() {
    std::map<std::string_view, std::vector<std::vector<const Mapping*>>> by_path;
    for (const Mapping& mapping : snapshot_.mappings) {
      if (!mapping.is_file() && mapping.path != kUnknownExecutable) continue;
      auto& copies = by_path[mapping.path];
      if (copies.empty() || mapping.file_offset == 0) copies.emplace_back();
      copies.back().push_back(&mapping);
    }
    std::vector<std::vector<const Mapping*>> result;
    for (auto& [path, copies] : by_path) {
      for (auto& copy : copies) result.push_back(std::move(copy));
    }
    return result;
  }

  void add(const std::vector<const Mapping*>& group) {
    const Mapping& first = *group.front();
    const std::optional<MemoryElf> header = read_memory_elf(reader_, first.start, machine_);
    const bool mapped_like_elf = group.size() > 1 || first.executable;
    if (!header && !mapped_like_elf) return;  // a data file
    Module module;
    module.path = first.path;
    module.range = {first.start, group.back()->end};
    module.image_end = header ? header->end : 0;
    module.build_id = header ? header->build_id : std::vector<std::byte>();
    module.load_bias = header ? header->load_bias : first.start;
    module.is_executable = first.path == kUnknownExecutable || contains_entry(module.range);
    first_mapping_.push_back(&first);
    snapshot_.modules.push_back(std::move(module));
  }

  // AT_PHDR lies in the main program.
  bool contains_entry(const AddrRange& range) const {
    for (const auto& [type, value] : snapshot_.auxv) {
      if (type == AT_PHDR) return range.contains(value);
    }
    return false;
  }

  void attach_file(Module& module) {
    const Mapping& first = *first_mapping_[static_cast<std::size_t>(&module - snapshot_.modules.data())];
    for (const std::string& path : candidate_files(snapshot_, module, first, options_)) {
      const bool asked_for = path == options_.exe;
      Result<std::shared_ptr<ElfFile>> file = ElfFile::open(path, machine_, debug_roots());
      if (!file) {
        if (asked_for) report_unused(module, file.error().message);
        if (file.error().code != ErrorCode::kNotFound) module.mismatch = file.error().message;
        continue;
      }
      module.match = matches(module, first, path, **file);
      if (module.match == FileMatch::kNone) {
        report_unused(module, module.mismatch);
        continue;
      }
      module.mismatch.clear();
      module.file = path;
      module.elf = *file;
      if (const auto bias = bias_of(**file, first)) module.load_bias = *bias;
      fill_from_file(module);
      return;
    }
  }

  // Where debug files by build-id lie, parted by colons.
  std::string debug_roots() const {
    return options_.sysroot.empty() ? kDebugRoot : options_.sysroot + kDebugRoot + ":" + kDebugRoot;
  }

  // .build-id/ab/cdef....debug; whoever reads it compares the build-id inside.
  void find_debug_file(Module& module) const {
    const std::string id = module.build_id_hex();
    if (id.size() < 4) return;
    const std::string name = "/.build-id/" + id.substr(0, 2) + "/" + id.substr(2) + ".debug";
    for (const std::string& root : {options_.sysroot, std::string()}) {
      const std::string path = root + kDebugRoot + name;
      if (module.debug_file.empty() && ::access(path.c_str(), R_OK) == 0) module.debug_file = path;
    }
  }

  // Each file is opened once, however many copies of it were loaded.
  const Result<std::shared_ptr<ElfFile>>& open_file(const std::string& path) {
    const auto known = files_.find(path);
    if (known != files_.end()) return known->second;
    return files_.emplace(path, ElfFile::open(path, machine_)).first->second;
  }

  // A file that is not used costs nothing by itself: what is missing for want of it is reported by who misses it.
  void report_unused(const Module& module, const std::string& why) {
    snapshot_.findings.note("file-not-used", Room::kCoreparse, module.range.start, why);
  }

  FileMatch matches(Module& module, const Mapping& first, const std::string& path, const ElfFile& file) {
    if (!module.build_id.empty() && !file.build_id().empty()) {
      if (module.build_id == file.build_id()) return FileMatch::kBuildId;
      module.mismatch = fmt::format(
          "{} is not used: its build-id does not match that of the {} which the target had mapped", path, module.path);
      return FileMatch::kNone;
    }
    const auto bias = bias_of(file, first);
    if (bias && dynamic_section_agrees(file, *bias, reader_)) return FileMatch::kDynamicSection;
    module.mismatch =
        fmt::format("{} is not used: nothing in the snapshot proves that it is the {} which the target had mapped",
                    path, module.path);
    return FileMatch::kNone;
  }

  // Whole pages, as the kernel maps them: what lies before and behind a segment in the file is mapped with it.
  void fill_from_file(const Module& module) {
    const std::span<const std::byte> file = module.elf->bytes();
    for (const ElfLoad& load : module.elf->loads()) {
      if (load.writable || load.file_bytes == 0) continue;
      const std::uint64_t lead = load.offset % kPageBytes;
      const auto end = checked_add(module.load_bias + load.vaddr, load.file_bytes);
      if (!end || load.vaddr % kPageBytes != lead) continue;
      const Addr start = module.load_bias + load.vaddr - lead;
      const std::uint64_t offset = load.offset - lead;
      const std::uint64_t n = std::min(align_up(*end, kPageBytes) - start, file.size() - offset);
      if (!module.range.contains(start, n)) continue;
      fill(module, {start, start + n}, offset);
    }
  }

  // Of `range`, which holds the module's file from `offset` on, what is still mapped so: another mapping may lie
  // within, or none.
  void fill(const Module& module, const AddrRange& range, std::uint64_t offset) {
    const auto& mappings = snapshot_.mappings;
    auto mapping = std::upper_bound(mappings.begin(), mappings.end(), range.start,
                                    [](Addr address, const Mapping& m) { return address < m.end; });
    for (; mapping != mappings.end() && mapping->start < range.end; ++mapping) {
      if (mapping->path != module.path || mapping->file_offset - offset != mapping->start - range.start) continue;
      const Addr start = std::max(mapping->start, range.start);
      const Addr end = std::min(mapping->end, range.end);
      const std::byte* bytes = module.elf->bytes().data() + offset + (start - range.start);
      extra_.push_back({start, end, bytes, ByteState::kPresent, true});
    }
  }

  Snapshot& snapshot_;
  const OpenOptions& options_;
  std::uint16_t machine_;
  Reader reader_;
  std::vector<const Mapping*> first_mapping_;  // of each module, in the order in which they were added
  std::map<std::string, Result<std::shared_ptr<ElfFile>>> files_;
  std::vector<Segment> extra_;
};

}  // namespace

void find_modules(Snapshot& snapshot, const OpenOptions& options, std::uint16_t machine) {
  ModuleFinder(snapshot, options, machine).run();
  count_not_dumped(snapshot);
}

void count_not_dumped(Snapshot& snapshot) {
  const std::span<const Segment> segments = snapshot.space.segments();
  std::size_t at = 0;
  for (Mapping& mapping : snapshot.mappings) {
    mapping.not_dumped_bytes = 0;
    while (at < segments.size() && segments[at].end <= mapping.start) ++at;
    for (std::size_t i = at; i < segments.size() && segments[i].start < mapping.end; ++i) {
      if (segments[i].state != ByteState::kNotDumped) continue;
      mapping.not_dumped_bytes += std::min(segments[i].end, mapping.end) - std::max(segments[i].start, mapping.start);
    }
  }
}

}  // namespace heapcore

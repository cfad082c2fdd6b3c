#include "coreparse/snapshot.h"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>

#include "coreparse/core_file.h"
#include "coreparse/elf_core.h"
#include "coreparse/elf_file.h"
#include "coreparse/module_names.h"
#include "coreparse/modules.h"

namespace heapcore {
namespace {

std::optional<std::uint64_t> auxv_value(const Snapshot& snapshot, std::uint64_t type) {
  for (const auto& [key, value] : snapshot.auxv) {
    if (key == type) return value;
  }
  return std::nullopt;
}

// Mapped files never overlap; of two that do, the lower claims what is the other's and more. Whether any was left out.
bool leave_out_overlapping(std::vector<MappedFile>& files) {
  std::stable_sort(files.begin(), files.end(),
                   [](const MappedFile& a, const MappedFile& b) { return a.start < b.start; });
  std::vector<MappedFile> kept;
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (i + 1 == files.size() || files[i].end <= files[i + 1].start) kept.push_back(std::move(files[i]));
  }
  std::swap(kept, files);
  return kept.size() != files.size();
}

// Gives PT_LOADs their file names, adds what only NT_FILE knows of (gcore lists file-backed text there alone), and
// makes the list sorted and disjoint.
std::vector<Mapping> merge_mappings(std::vector<Mapping> loads, std::vector<MappedFile> files) {
  const auto by_start = [](const auto& a, const auto& b) { return a.start < b.start; };
  std::stable_sort(loads.begin(), loads.end(), by_start);
  std::stable_sort(files.begin(), files.end(), by_start);
  std::vector<Mapping> out;
  Addr covered = 0;
  auto file = files.begin();
  // What files alone have in [covered, until).
  const auto add_files = [&](Addr until) {
    while (file != files.end() && file->start < until) {
      const Addr start = std::max(file->start, covered);
      const Addr end = std::min(file->end, until);
      if (start < end) {
        Mapping mapping;
        mapping.start = start;
        mapping.end = end;
        mapping.file_offset = file->file_offset + (start - file->start);
        mapping.path = file->path;
        mapping.readable = true;
        out.push_back(std::move(mapping));
        covered = end;
      }
      if (file->end > until) return;
      ++file;
    }
  };
  for (Mapping& load : loads) {
    add_files(load.start);
    load.start = std::max(load.start, covered);
    if (load.start >= load.end) continue;
    const auto holds = [&](const MappedFile& f) { return f.start <= load.start && load.start < f.end; };
    if (file != files.end() && holds(*file)) {
      load.path = file->path;
      load.file_offset = file->file_offset + (load.start - file->start);
    }
    covered = load.end;
    out.push_back(std::move(load));
    while (file != files.end() && file->end <= covered) ++file;
  }
  add_files(~Addr{0});
  return out;
}

// The kernel's own mappings, which a core does not name.
void name_special_mappings(Snapshot& snapshot) {
  const auto name = [&](std::optional<std::uint64_t> inside, const char* text) {
    if (!inside) return;
    for (Mapping& mapping : snapshot.mappings) {
      if (mapping.start <= *inside && *inside < mapping.end && mapping.path.empty()) mapping.path = text;
    }
  };
  name(auxv_value(snapshot, AT_SYSINFO_EHDR), "[vdso]");
  name(auxv_value(snapshot, AT_RANDOM), "[stack]");
}

// Mappings that no segment covers (NT_FILE's own) become not-dumped segments, so that both lists cover the same bytes.
void cover_mappings(Snapshot& snapshot) {
  std::vector<Segment> missing;
  for (const Mapping& mapping : snapshot.mappings) {
    missing.push_back({mapping.start, mapping.end, nullptr, ByteState::kNotDumped, false});
  }
  snapshot.space.overlay(std::move(missing));
}

// What could not be read when the core was written is stored as zeros. REQUIRES: `unreadable` sorted and disjoint.
void leave_out(std::vector<Segment>& segments, const std::vector<AddrRange>& unreadable) {
  if (unreadable.empty()) return;
  std::vector<Segment> out;
  for (Segment rest : segments) {
    auto bad = std::upper_bound(unreadable.begin(), unreadable.end(), rest.start,
                                [](Addr address, const AddrRange& range) { return address < range.end; });
    for (; rest.bytes != nullptr && bad != unreadable.end() && bad->start < rest.end; ++bad) {
      const Addr good_end = std::max(bad->start, rest.start);
      const Addr bad_end = std::min(bad->end, rest.end);
      if (rest.start < good_end) out.push_back({rest.start, good_end, rest.bytes, rest.state, false});
      out.push_back({good_end, bad_end, nullptr, ByteState::kNotDumped, false});
      rest.bytes += bad_end - rest.start;
      rest.start = bad_end;
    }
    if (rest.start < rest.end) out.push_back(rest);
  }
  segments = std::move(out);
}

// Sorts, and drops what overlaps: heapcore wrote neither so.
void make_disjoint(std::vector<AddrRange>& ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const AddrRange& a, const AddrRange& b) { return a.start < b.start; });
  Addr covered = 0;
  std::erase_if(ranges, [&](const AddrRange& range) {
    if (range.start < covered) return true;
    covered = range.end;
    return false;
  });
}

// Whether each of `loads` lies in one of `mappings`, which are sorted and disjoint.
bool lie_in(const std::vector<Mapping>& loads, const std::vector<Mapping>& mappings) {
  return std::all_of(loads.begin(), loads.end(), [&](const Mapping& load) {
    const auto it = std::upper_bound(mappings.begin(), mappings.end(), load.start,
                                     [](Addr a, const Mapping& mapping) { return a < mapping.end; });
    return it != mappings.end() && it->start <= load.start && load.end <= it->end;
  });
}

// What a core that heapcore wrote says beyond what others do. False if it does, but does not fit the rest.
bool take_own_notes(Snapshot& snapshot, CoreHeaders& headers) {
  CoreNotes& notes = headers.notes;
  if (notes.mappings.empty()) return true;
  if (!lie_in(headers.mappings, notes.mappings)) return false;
  make_disjoint(notes.zero_ranges);
  std::vector<Segment> zeros;
  for (const AddrRange& range : notes.zero_ranges) {
    const auto it = std::upper_bound(notes.mappings.begin(), notes.mappings.end(), range.start,
                                     [](Addr a, const Mapping& mapping) { return a < mapping.end; });
    if (it == notes.mappings.end() || it->start > range.start || range.end > it->end) return false;
    zeros.push_back({range.start, range.end, nullptr, ByteState::kZeroFill, false});
  }
  snapshot.space.overlay(std::move(zeros));
  snapshot.mappings = std::move(notes.mappings);
  for (Thread& thread : snapshot.threads) {
    const auto name = notes.thread_names.find(thread.tid);
    if (name != notes.thread_names.end()) thread.name = name->second;
  }
  return true;
}

}  // namespace

Result<Snapshot> open_core(const std::string& path, const OpenOptions& options, Progress& progress) {
  Snapshot snapshot;
  snapshot.info.kind = TargetKind::kCore;
  snapshot.info.path = path;
  Result<Image> image = read_core_file(path, snapshot.findings, progress);
  if (!image) return image.error();
  Result<CoreHeaders> headers = read_core_headers(image->bytes(), path, snapshot.findings);
  if (!headers) return headers.error();
  snapshot.storage.push_back(std::move(*image));

  CoreNotes& notes = headers->notes;
  snapshot.info.architecture = "x86_64";
  snapshot.info.pid = notes.pid != 0 || notes.threads.empty() ? notes.pid : notes.threads.front().tid;
  snapshot.info.command = std::move(notes.command);
  snapshot.info.signal = notes.signal;
  snapshot.threads = std::move(notes.threads);
  if (!snapshot.threads.empty()) snapshot.threads.front().name = notes.program;
  snapshot.auxv = std::move(notes.auxv);
  if (snapshot.threads.empty()) {
    snapshot.findings.add({"core-no-threads", Room::kCoreparse, 0,
                           "the core has no thread notes; stacks and thread caches cannot be found"});
  }
  if (leave_out_overlapping(notes.files) || notes.cut_short) {
    snapshot.findings.add({"core-notes-damaged", Room::kCoreparse, 0,
                           "the core's list of mapped files is damaged; modules may be missing"});
  }

  make_disjoint(notes.unreadable);
  leave_out(headers->segments, notes.unreadable);
  const std::uint64_t claimed_twice = snapshot.space.assign(std::move(headers->segments));
  if (claimed_twice != 0) {
    snapshot.findings.add(
        {"core-segments-overlap", Room::kCoreparse, 0,
         fmt::format("{} bytes belong to more than one segment of the core; the lower one is used", claimed_twice)});
  }
  if (!take_own_notes(snapshot, *headers)) {
    snapshot.findings.add({"core-maps-disagree", Room::kCoreparse, 0,
                           "the core's own list of mappings does not fit its segments; it is not used"});
  }
  if (snapshot.mappings.empty()) {
    const bool files_listed = !notes.files.empty();
    snapshot.mappings = merge_mappings(std::move(headers->mappings), std::move(notes.files));
    name_special_mappings(snapshot);
    if (!files_listed) {
      snapshot.findings.add({"core-no-file-list", Room::kCoreparse, 0,
                             "the core has no list of mapped files; modules are known as far as memory itself tells"});
      name_mappings_from_memory(snapshot, headers->machine);
    }
  }
  cover_mappings(snapshot);
  find_modules(snapshot, options, headers->machine);
  if (const Module* main = snapshot.executable()) snapshot.info.executable = main->path;
  return snapshot;
}

const Module* Snapshot::module_at(Addr address) const {
  for (const Module& module : modules) {
    if (module.range.contains(address)) return &module;
  }
  return nullptr;
}

const Mapping* Snapshot::mapping_at(Addr address) const {
  const auto it = std::upper_bound(mappings.begin(), mappings.end(), address,
                                   [](Addr a, const Mapping& mapping) { return a < mapping.end; });
  return it != mappings.end() && it->start <= address ? &*it : nullptr;
}

namespace {

// Where the module's header is not in the snapshot, .bss is taken to be what lies right behind its file.
bool owns(const Module& module, const Mapping& mapping) {
  if (!mapping.path.empty()) return mapping.path == module.path && module.range.contains(mapping.start);
  if (module.image_end != 0) return mapping.start >= module.range.start && mapping.start < module.image_end;
  return mapping.writable && mapping.start >= module.range.start && mapping.start <= module.range.end;
}

}  // namespace

const Module* Snapshot::owner_of(const Mapping& mapping) const {
  for (const Module& module : modules) {
    if (owns(module, mapping)) return &module;
  }
  return nullptr;
}

bool Snapshot::is_static(Addr address) const {
  for (const Module& module : modules) {
    if (address >= module.range.start && address < std::max(module.range.end, module.image_end)) return true;
  }
  return false;
}

std::vector<AddrRange> Snapshot::variables_of(const Module& module) const {
  std::vector<AddrRange> ranges;
  for (const Mapping& mapping : mappings) {
    if (!mapping.writable || mapping.shared || !owns(module, mapping)) continue;
    // What follows .bss may be in one mapping with it.
    const Addr end = mapping.path.empty() && module.image_end > mapping.start ? module.image_end : mapping.end;
    ranges.push_back({mapping.start, std::min(mapping.end, end)});
  }
  return ranges;
}

const Module* Snapshot::executable() const {
  for (const Module& module : modules) {
    if (module.is_executable) return &module;
  }
  return nullptr;
}

const Module* Snapshot::module_named(std::string_view prefix) const {
  for (const Module& module : modules) {
    if (module.name().starts_with(prefix)) return &module;
  }
  return nullptr;
}

std::uint64_t Snapshot::mapped_bytes() const {
  std::uint64_t total = 0;
  for (const Mapping& mapping : mappings) total += mapping.size_bytes();
  return total;
}

std::string_view Module::name() const {
  const std::string_view whole = path;
  const std::size_t slash = whole.rfind('/');
  return slash == std::string_view::npos ? whole : whole.substr(slash + 1);
}

std::string Module::build_id_hex() const {
  std::string text;
  for (const std::byte byte : build_id) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

std::optional<AddrRange> Module::section(std::string_view section_name) const {
  if (elf == nullptr) return std::nullopt;
  const std::optional<AddrRange> found = elf->section(section_name);
  if (!found || found->start == 0) return std::nullopt;
  return AddrRange{found->start + load_bias, found->end + load_bias};
}

}  // namespace heapcore

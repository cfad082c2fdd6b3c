#include "coreparse/core_head.h"

#include <elf.h>
#include <fmt/format.h>
#include <sys/procfs.h>

#include <algorithm>
#include <cstring>

#include "coreparse/notes.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::size_t kTailRanges = 254;

template <typename T>
void append(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_note(std::string& out, std::string_view owner, std::uint32_t type, std::string_view description) {
  const auto pad = [&] { out.append((4 - out.size() % 4) % 4, '\0'); };
  Elf64_Nhdr header{};
  header.n_namesz = static_cast<Elf64_Word>(owner.size() + 1);
  header.n_descsz = static_cast<Elf64_Word>(description.size());
  header.n_type = type;
  append(out, header);
  out.append(owner).push_back('\0');
  pad();
  out.append(description);
  pad();
}

template <typename T>
void append_struct_note(std::string& out, std::uint32_t type, const T& value) {
  append_note(out, "CORE", type, {reinterpret_cast<const char*>(&value), sizeof value});
}

void append_thread(std::string& out, const Thread& thread, const FloatRegisters& float_registers) {
  prstatus_t status{};
  status.pr_pid = thread.tid;
  static_assert(sizeof status.pr_reg == sizeof thread.user_regs);
  std::memcpy(&status.pr_reg, thread.user_regs.data(), sizeof status.pr_reg);
  append_struct_note(out, NT_PRSTATUS, status);
  const auto registers = float_registers.find(thread.tid);
  if (registers != float_registers.end()) append_struct_note(out, NT_PRFPREG, registers->second);
}

void append_process(std::string& out, const Snapshot& subject) {
  prpsinfo_t info{};
  info.pr_sname = 'R';
  info.pr_pid = subject.info.pid;
  const std::string name = subject.threads.empty() ? std::string() : subject.threads.front().name;
  name.copy(info.pr_fname, sizeof info.pr_fname - 1);
  subject.info.command.copy(info.pr_psargs, sizeof info.pr_psargs - 1);
  append_struct_note(out, NT_PRPSINFO, info);
}

std::string auxv_bytes(const Snapshot& subject) {
  std::string out;
  for (const auto& entry : subject.auxv) {
    append(out, entry.first);
    append(out, entry.second);
  }
  out.append(16, '\0');
  return out;
}

std::string file_list(const Snapshot& subject) {
  std::string entries;
  std::string names;
  std::uint64_t count = 0;
  for (const Mapping& mapping : subject.mappings) {
    if (!mapping.is_file()) continue;
    ++count;
    append(entries, mapping.start);
    append(entries, mapping.end);
    append(entries, mapping.file_offset / kPageBytes);
    names.append(mapping.path).push_back('\0');
  }
  std::string out;
  append(out, count);
  append(out, kPageBytes);
  return out + entries + names;
}

// As the kernel writes it: a newline in a path is \012.
std::string maps_text(const Snapshot& subject) {
  std::string out;
  for (const Mapping& mapping : subject.mappings) {
    fmt::format_to(std::back_inserter(out), "{:x}-{:x} {}{}{}{} {:08x} 00:00 0 ", mapping.start, mapping.end,
                   mapping.readable ? 'r' : '-', mapping.writable ? 'w' : '-', mapping.executable ? 'x' : '-',
                   mapping.shared ? 's' : 'p', mapping.file_offset);
    for (const char c : mapping.path) {
      if (c == '\n') {
        out += "\\012";
      } else {
        out += c;
      }
    }
    out += '\n';
  }
  return out;
}

std::string thread_names(const Snapshot& subject) {
  std::string out;
  for (const Thread& thread : subject.threads) {
    append(out, thread.tid);
    out.append(thread.name).push_back('\0');
  }
  return out;
}

std::string zero_ranges(std::span<const CorePart> parts) {
  std::string out;
  for (const CorePart& part : parts) {
    if (part.state == PartState::kZero) append(out, part.range);
  }
  return out;
}

// A thread's notes stand together, and the process's behind those of the first thread.
std::string make_notes(const Snapshot& subject, std::span<const CorePart> parts,
                       const FloatRegisters& float_registers) {
  std::string out;
  if (!subject.threads.empty()) append_thread(out, subject.threads.front(), float_registers);
  append_process(out, subject);
  append_note(out, "CORE", NT_AUXV, auxv_bytes(subject));
  append_note(out, "CORE", NT_FILE, file_list(subject));
  for (std::size_t i = 1; i < subject.threads.size(); ++i) append_thread(out, subject.threads[i], float_registers);
  append_note(out, kOwnNotes, kNoteMaps, maps_text(subject));
  append_note(out, kOwnNotes, kNoteZeroRanges, zero_ranges(parts));
  append_note(out, kOwnNotes, kNoteThreadNames, thread_names(subject));
  return out;
}

Elf64_Ehdr elf_header(std::uint64_t program_headers) {
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_CORE;
  header.e_machine = EM_X86_64;
  header.e_version = EV_CURRENT;
  header.e_phoff = sizeof(Elf64_Ehdr);
  header.e_ehsize = sizeof(Elf64_Ehdr);
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = static_cast<Elf64_Half>(std::min<std::uint64_t>(program_headers, PN_XNUM));
  if (program_headers >= PN_XNUM) {  // then section header 0 holds the number
    header.e_shoff = sizeof(Elf64_Ehdr) + program_headers * sizeof(Elf64_Phdr);
    header.e_shentsize = sizeof(Elf64_Shdr);
    header.e_shnum = 1;
  }
  return header;
}

Elf64_Phdr note_segment(std::uint64_t offset, std::uint64_t size) {
  Elf64_Phdr segment{};
  segment.p_type = PT_NOTE;
  segment.p_offset = offset;
  segment.p_filesz = size;
  segment.p_align = 4;
  return segment;
}

}  // namespace

std::uint32_t segment_flags(const Mapping& mapping) {
  return (mapping.readable ? PF_R : 0U) | (mapping.writable ? PF_W : 0U) | (mapping.executable ? PF_X : 0U);
}

CoreHead make_core_head(const Snapshot& subject, std::span<const CorePart> parts,
                        const FloatRegisters& float_registers) {
  const std::string notes = make_notes(subject, parts, float_registers);
  const std::uint64_t segments = parts.size() + 2;
  const Elf64_Ehdr header = elf_header(segments);
  const std::uint64_t notes_at = sizeof header + segments * sizeof(Elf64_Phdr) + header.e_shnum * sizeof(Elf64_Shdr);
  const std::uint64_t head_bytes = align_up(notes_at + notes.size(), kPageBytes);
  std::uint64_t early_bytes = 0;
  std::uint64_t late_bytes = 0;
  for (const CorePart& part : parts) {
    if (part.state == PartState::kStored) (part.late ? late_bytes : early_bytes) += part.range.size_bytes();
  }
  const std::uint64_t tail_at = head_bytes + early_bytes + late_bytes;
  const std::string tail = make_core_tail({});
  CoreHead head;
  head.file_bytes = tail_at + tail.size();
  head.bytes.reserve(head_bytes);
  append(head.bytes, header);
  append(head.bytes, note_segment(notes_at, notes.size()));
  append(head.bytes, note_segment(tail_at, tail.size()));
  std::uint64_t early_at = head_bytes;
  std::uint64_t late_at = head_bytes + early_bytes;
  for (const CorePart& part : parts) {
    const bool stored = part.state == PartState::kStored;
    std::uint64_t& at = part.late ? late_at : early_at;
    Elf64_Phdr segment{};
    segment.p_type = PT_LOAD;
    segment.p_flags = part.flags;
    segment.p_offset = at;
    segment.p_vaddr = part.range.start;
    segment.p_filesz = stored ? part.range.size_bytes() : 0;
    segment.p_memsz = part.range.size_bytes();
    segment.p_align = kPageBytes;
    append(head.bytes, segment);
    at += segment.p_filesz;
  }
  if (header.e_shnum != 0) {
    Elf64_Shdr count{};
    count.sh_info = static_cast<Elf64_Word>(segments);
    append(head.bytes, count);
  }
  head.bytes += notes;
  head.bytes.resize(head_bytes);
  return head;
}

std::string make_core_tail(std::span<const AddrRange> unreadable) {
  std::string ranges;
  for (std::size_t i = 0; i < std::min(unreadable.size(), kTailRanges); ++i) append(ranges, unreadable[i]);
  // Where there are more, the last one stands for all the rest.
  if (unreadable.size() > kTailRanges)
    std::memcpy(ranges.data() + ranges.size() - sizeof(Addr), &unreadable.back().end, sizeof(Addr));
  ranges.resize(kTailRanges * sizeof(AddrRange));
  std::string out;
  append_note(out, kOwnNotes, kNoteUnreadable, ranges);
  return out;
}

}  // namespace heapcore

#include "coreparse/notes.h"

#include <elf.h>
#include <sys/procfs.h>
#include <sys/user.h>

#include <algorithm>
#include <cstring>

#include "coreparse/live_proc.h"

namespace heapcore {
namespace {

using Bytes = std::span<const std::byte>;

template <typename T>
T load_at(Bytes bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

std::string text_of(const char* text, std::size_t capacity) {
  return {text, ::strnlen(text, capacity)};
}

void read_prstatus(Bytes bytes, CoreNotes& out) {
  if (bytes.size() < sizeof(prstatus_t)) return;
  const auto status = load_at<prstatus_t>(bytes, 0);
  Thread thread;
  thread.tid = status.pr_pid;
  static_assert(sizeof(status.pr_reg) == sizeof(user_regs_struct));
  static_assert(sizeof(status.pr_reg) == sizeof(thread.user_regs));
  std::memcpy(thread.user_regs.data(), &status.pr_reg, sizeof(status.pr_reg));
  user_regs_struct regs;
  std::memcpy(&regs, &status.pr_reg, sizeof regs);
  thread.pc = regs.rip;
  thread.sp = regs.rsp;
  thread.thread_pointer = regs.fs_base;
  if (out.threads.empty()) out.signal = status.pr_cursig;
  out.threads.push_back(std::move(thread));
}

void read_prpsinfo(Bytes bytes, CoreNotes& out) {
  if (bytes.size() < sizeof(prpsinfo_t)) return;
  const auto info = load_at<prpsinfo_t>(bytes, 0);
  out.pid = info.pr_pid;
  out.program = text_of(info.pr_fname, sizeof info.pr_fname);
  out.command = text_of(info.pr_psargs, sizeof info.pr_psargs);
  while (!out.command.empty() && out.command.back() == ' ') out.command.pop_back();
}

void read_auxv(Bytes bytes, CoreNotes& out) {
  for (std::size_t at = 0; at + 16 <= bytes.size(); at += 16) {
    const auto type = load_at<std::uint64_t>(bytes, at);
    if (type == AT_NULL) return;
    out.auxv.emplace_back(type, load_at<std::uint64_t>(bytes, at + 8));
  }
}

// count, page size; count times {start, end, offset in pages}; count NUL-terminated names.
void read_files(Bytes bytes, CoreNotes& out) {
  if (bytes.size() < 16) return;
  const auto count = load_at<std::uint64_t>(bytes, 0);
  const auto page_bytes = load_at<std::uint64_t>(bytes, 8);
  if (count > (bytes.size() - 16) / 24) {
    out.cut_short = true;
    return;
  }
  std::size_t name_at = 16 + static_cast<std::size_t>(count) * 24;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::size_t entry = 16 + static_cast<std::size_t>(i) * 24;
    const auto* name = reinterpret_cast<const char*>(bytes.data() + name_at);
    const std::size_t length = ::strnlen(name, bytes.size() - name_at);
    if (name_at + length >= bytes.size()) {
      out.cut_short = true;
      return;
    }
    MappedFile file;
    file.start = load_at<std::uint64_t>(bytes, entry);
    file.end = load_at<std::uint64_t>(bytes, entry + 8);
    file.file_offset = load_at<std::uint64_t>(bytes, entry + 16) * page_bytes;
    file.path.assign(name, length);
    if (file.start < file.end) out.files.push_back(std::move(file));
    name_at += length + 1;
  }
}

void read_ranges(Bytes bytes, std::vector<AddrRange>& out) {
  for (std::size_t at = 0; at + sizeof(AddrRange) <= bytes.size(); at += sizeof(AddrRange)) {
    const auto range = load_at<AddrRange>(bytes, at);
    if (range.start < range.end) out.push_back(range);
  }
}

void read_thread_names(Bytes bytes, CoreNotes& out) {
  while (bytes.size() > sizeof(std::int32_t)) {
    const auto tid = load_at<std::int32_t>(bytes, 0);
    bytes = bytes.subspan(sizeof tid);
    std::string name = text_of(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    bytes = bytes.subspan(std::min(name.size() + 1, bytes.size()));
    out.thread_names.emplace(tid, std::move(name));
  }
}

void read_own_note(std::uint32_t type, Bytes bytes, CoreNotes& out) {
  switch (type) {
    case kNoteMaps:
      out.mappings = live::parse_maps({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
      break;
    case kNoteZeroRanges:
      read_ranges(bytes, out.zero_ranges);
      break;
    case kNoteThreadNames:
      read_thread_names(bytes, out);
      break;
    case kNoteUnreadable:
      read_ranges(bytes, out.unreadable);
      break;
    default:
      break;
  }
}

}  // namespace

void read_core_note(std::string_view owner, std::uint32_t type, Bytes description, CoreNotes& out) {
  if (owner == kOwnNotes) read_own_note(type, description, out);
  if (owner != "CORE") return;
  switch (type) {
    case NT_PRSTATUS:
      read_prstatus(description, out);
      break;
    case NT_PRPSINFO:
      read_prpsinfo(description, out);
      break;
    case NT_AUXV:
      read_auxv(description, out);
      break;
    case NT_FILE:
      read_files(description, out);
      break;
    case NT_SIGINFO:
      if (description.size() >= 4) out.signal = load_at<std::int32_t>(description, 0);
      break;
    default:
      break;
  }
}

}  // namespace heapcore

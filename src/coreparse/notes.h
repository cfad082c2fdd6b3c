// The notes of an ELF core: threads, registers, process, auxiliary vector, mapped files. Private to coreparse.
//
// Layouts: linux/elfcore.h (struct elf_prstatus, elf_prpsinfo) on x86-64, and fs/binfmt_elf.c for NT_FILE. Unknown
// notes are passed over, and so is what a note that is cut short no longer says.
//
// Cores that heapcore wrote (core_head.h) have more, under a name of their own:
//   maps          the text of /proc/PID/maps, device and inode left out
//   zero ranges   pairs of start and end: mapped memory that reads as zero and takes no room in the file
//   thread names  for each thread its tid, four bytes, and its name with a NUL behind it
//   unreadable    pairs of start and end: what is stored as zeros but could not be read; empty pairs say nothing
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "coreparse/snapshot.h"

namespace heapcore {

inline constexpr std::string_view kOwnNotes = "HEAPCORE";
inline constexpr std::uint32_t kNoteMaps = 1;
inline constexpr std::uint32_t kNoteZeroRanges = 2;
inline constexpr std::uint32_t kNoteThreadNames = 3;
inline constexpr std::uint32_t kNoteUnreadable = 4;

struct MappedFile {
  Addr start = 0;
  Addr end = 0;
  std::uint64_t file_offset = 0;
  std::string path;
};

struct CoreNotes {
  std::vector<Thread> threads;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> auxv;
  std::vector<MappedFile> files;
  std::int32_t pid = 0;
  std::string program;  // at most 15 characters
  std::string command;  // at most 79
  std::int32_t signal = 0;
  bool cut_short = false;
  // Of cores that heapcore wrote.
  std::vector<Mapping> mappings;
  std::vector<AddrRange> zero_ranges;
  std::vector<AddrRange> unreadable;
  std::map<std::int32_t, std::string> thread_names;  // by tid
};

// Adds what one note says. `owner` is "CORE", "LINUX", "GDB", "HEAPCORE" ...
void read_core_note(std::string_view owner, std::uint32_t type, std::span<const std::byte> description, CoreNotes& out);

}  // namespace heapcore

// The notes of an ELF core: threads, registers, process, auxiliary vector, mapped files. Private to coreparse.
//
// Layouts: linux/elfcore.h (struct elf_prstatus, elf_prpsinfo) on x86-64, and fs/binfmt_elf.c for NT_FILE. Unknown
// notes are passed over, and so is what a note that is cut short no longer says.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "coreparse/snapshot.h"

namespace heapcore {

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
};

// Adds what one note says. `owner` is "CORE", "LINUX", "GDB" ...
void read_core_note(std::string_view owner, std::uint32_t type, std::span<const std::byte> description, CoreNotes& out);

}  // namespace heapcore

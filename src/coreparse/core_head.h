// The head of a core that heapcore writes, ELF header, program headers and notes, and what lies behind it where.
// Private to coreparse.
//
// Formats: the ELF specification; linux/elfcore.h and fs/binfmt_elf.c for the notes that every core has. What those
// cannot say goes into notes of our own (notes.h): the mappings by name, which memory nobody has touched, the names of
// threads. Others pass over them.
//
// In the file: the head, whole pages; the stored parts, by address; behind them the late ones, by address; the tail.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "coreparse/snapshot.h"
#include "support/addr.h"

namespace heapcore {

enum class PartState : std::uint8_t {
  kStored,  // its bytes are in the file
  kZero,    // it reads as zero; no bytes are stored
  kAbsent,  // its bytes are not known
};

// A stretch of whole pages within one mapping, and a PT_LOAD.
struct CorePart {
  AddrRange range;
  PartState state = PartState::kAbsent;
  bool late = false;        // stored behind those that are not
  std::uint32_t flags = 0;  // PF_R, PF_W, PF_X
};

// PF_R, PF_W and PF_X of a mapping.
std::uint32_t segment_flags(const Mapping& mapping);

struct CoreHead {
  std::string bytes;             // the beginning of the file
  std::uint64_t file_bytes = 0;  // of the whole file, the tail included
};

// struct user_fpregs_struct of each thread, by tid.
using FloatRegisters = std::map<std::int32_t, std::array<std::byte, 512>>;

// `subject`: its info, threads, auxv and mappings; its memory is not looked at. REQUIRES: `parts` sorted and disjoint.
CoreHead make_core_head(const Snapshot& subject, std::span<const CorePart> parts,
                        const FloatRegisters& float_registers = {});

// The end of the file, always of the same size: what of the stored parts could not be read. REQUIRES: sorted, disjoint.
std::string make_core_tail(std::span<const AddrRange> unreadable);

}  // namespace heapcore

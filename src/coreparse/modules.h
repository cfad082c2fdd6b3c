// Which ELF files the target had loaded, and which files here are the same ones. Private to coreparse; both kinds of
// snapshot call it once their mappings and their own bytes are in place.
//
// A file is used only if it is proved to be the one that was mapped: by build-id, or, where the target's memory holds
// no build-id, by its whole .dynamic section. What the target's memory lacks of a module's read-only segments is then
// read from that file. Writable segments never are: the process may have changed them.
#pragma once

#include <string>

#include "coreparse/snapshot.h"

namespace heapcore {

// Fills snapshot.modules, overlays snapshot.space, moves the files' bytes into modules, adds findings for files that
// are missing or do not match. `machine` is ELF's e_machine.
void find_modules(Snapshot& snapshot, const OpenOptions& options, std::uint16_t machine);

// Recounts Mapping::not_dumped_bytes from snapshot.space.
void count_not_dumped(Snapshot& snapshot);

}  // namespace heapcore

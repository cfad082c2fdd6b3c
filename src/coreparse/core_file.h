// The bytes of a core file, decompressed if need be. Private to coreparse.
//
// An uncompressed core is mapped. A compressed one (zstd, lz4, xz, gzip; by its first bytes, not by its name) is
// unpacked into anonymous memory, never into a file; pages of zeros take no memory. A stream that ends early or is
// damaged gives what came before, and a finding.
#pragma once

#include <string>

#include "coreparse/image.h"
#include "support/finding.h"
#include "support/progress.h"
#include "support/result.h"

namespace heapcore {

Result<Image> read_core_file(const std::string& path, Findings& findings, Progress& progress);

}  // namespace heapcore

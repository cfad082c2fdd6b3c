// What a function's machine code says about where things are: its references to fixed addresses, through Capstone.
//
// In a stripped program the exported function that returns a counter is often the only thing that knows where the
// counter lies. x86-64 today; another machine is one more case in code.cc.
#pragma once

#include <cstdint>
#include <vector>

#include "coreparse/address_space.h"

namespace heapcore {

enum class CodeRefKind : std::uint8_t {
  kAddress,  // the address itself is taken (lea)
  kLoad,     // read
  kStore,    // written
  kCompare,  // compared with
  kJump,     // jumped to, unconditionally
  kCall,
};

struct CodeRef {
  CodeRefKind kind = CodeRefKind::kAddress;
  Addr target = 0;
  std::uint32_t width_bytes = 0;  // of the memory operand; 0 for kAddress, kJump and kCall
  std::uint32_t instruction = 0;  // the how-manieth instruction of the function, from 0
};

// The references in the code that begins at `function`, in order, of at most max_instructions (linear, not along
// branches). Ends early at undecodable bytes, at bytes not present, or at code padding (int3).
std::vector<CodeRef> code_references(Reader& reader, Addr function, std::uint32_t max_instructions);

}  // namespace heapcore

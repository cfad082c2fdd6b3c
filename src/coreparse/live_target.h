// Whether a process may and can be looked at, and if not, why and what to do. Private to coreparse.
//
// Everything here is asked before the process is disturbed. Refused: what does not exist, has ended, is a kernel
// thread, is not 64-bit x86-64, is traced by somebody else, may not be read, and heapcore itself with all its
// ancestors, because stopping one of them can stop heapcore too.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "coreparse/live_proc.h"
#include "support/result.h"

namespace heapcore::live {

// Where it need not be stopped, another may trace it.
Result<ProcDir> find_target(std::int32_t pid, bool stop = true);

// The error for a process that the system does not let us read or trace. `tid` is the thread that was refused.
Error access_error(const ProcDir& proc, std::int32_t tid, int error_number);
Error gone_error(std::int32_t pid);

// What to do about a process that may not be traced. `ptrace_scope` is the Yama module's sysctl, if there is one.
std::string permission_hint(bool own_user, std::optional<int> ptrace_scope);

}  // namespace heapcore::live

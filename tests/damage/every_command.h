// The work of every command on one opened target, rendered in every form, in this process.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>

#include "analysis/process.h"

namespace heapcore::damage {

struct Answers {
  std::map<std::string, std::uint64_t> types;  // "module.name", how many objects
  std::string wrong;                           // what no target may make an answer be: a ledger that does not add up
};

// `entering` is told each command's name before its work begins. `addresses`: what is asked for by those that take one.
// `older`: what diff compares with; null: it is left out, and so are the paths of all objects, which take as long.
Answers run_every_command(Process& process, std::span<const Addr> addresses, Process* older,
                          const std::function<void(const char*)>& entering);

}  // namespace heapcore::damage

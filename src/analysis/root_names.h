// What a root is called: "sys.modules", "local cache in handler (worker.py:41)", "static held in libholder.so".
#pragma once

#include <string>

#include "analysis/roots.h"
#include "pyobj/values.h"

namespace heapcore {

class RootNames {
 public:
  // Keeps references to all of them. REQUIRES: process.runtime() != nullptr.
  RootNames(const Process& process, TypeTable& types, bool values, Findings& findings);

  std::string text(const RootWord& root);

 private:
  std::string frame_text(const RootWord& root);
  std::string interpreter_text(const RootWord& root) const;
  std::string thread_text(const RootWord& root);
  std::string thread_name(Addr state);
  std::string static_text(const RootWord& root) const;
  std::string stack_text(const RootWord& root) const;

  const Process& process_;
  const PyRuntime& runtime_;
  Reader reader_;
  ValueReader frames_;
};

}  // namespace heapcore

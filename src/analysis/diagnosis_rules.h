// What the rules of diagnose() share; each file of them has one entry here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "analysis/incident.h"
#include "analysis/paths.h"

namespace heapcore {

class Rules {
 public:
  Rules(const Process& process, const Incident& incident, const IncidentOptions& options);

  std::vector<Diagnosis> run();

 private:
  // diagnose_holders.cc: objects that hold much, by what they are.
  void holders();
  // diagnose_objects.cc
  void uncollected_cycles();
  void lost_references();
  void task_pileup();
  void waste();
  // diagnose_allocators.cc
  void sparse_arenas();
  void sparse_pages();
  void untrimmed_malloc();
  void scattered_malloc();
  void native_growth();

  // Of less, or of a smaller share of the process's own memory, nothing is said.
  std::uint64_t least_bytes() const;
  bool worth_saying(std::uint64_t bytes) const { return bytes >= least_bytes(); }
  Severity severity(std::uint64_t bytes) const;
  // "12.3 MiB (45.6 % of the process's own memory)".
  std::string share(std::uint64_t bytes) const;
  Diagnosis& add(std::string_view code, Severity severity, std::uint64_t bytes, std::string title);

  const Process& process_;
  const Incident& incident_;
  const IncidentOptions& options_;
  std::uint64_t own_bytes_ = 0;  // mapped, and neither files' nor stacks' nor reserved
  Findings findings_;            // of reading for evidence; what they say the passes before have said
  std::vector<Diagnosis> found_;
};

}  // namespace heapcore

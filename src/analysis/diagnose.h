// The rules that make diagnoses. Each has a threshold under which it says nothing: a healthy process has none.
#pragma once

#include <vector>

#include "analysis/incident.h"

namespace heapcore {

// Of everything else in `incident`.
std::vector<Diagnosis> diagnose(const Process& process, const Incident& incident, const IncidentOptions& options);

}  // namespace heapcore

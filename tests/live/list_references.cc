// For tests: what every object refers to, as heapcore sees it.
//
//   list_references CORE|PID  < addresses, one a line
//
// writes one line an address, "ADDR KIND TARGET EDGE" for each reference; then for each type whose objects are tracked
// "TYPE module name objects visited-references checksum conservative-words": the checksum is the sum of all targets.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <string>

#include "analysis/block_table.h"
#include "analysis/census.h"
#include "analysis/process.h"
#include "pyobj/objects.h"
#include "pyobj/references.h"

using namespace heapcore;  // NOLINT(google-build-using-namespace)

namespace {

struct OfType {
  std::uint64_t objects = 0;
  std::uint64_t references = 0;
  std::uint64_t checksum = 0;
  std::uint64_t conservative = 0;
};

void list(const ObjectView& object, ReferenceReader& references, Reader& reader, const PyTraits& traits) {
  references.for_each(object, [&](Addr target, RefKind kind, const EdgeName& name) {
    std::printf("%#lx %s %#lx %s\n", object.address, std::string(ref_kind_name(kind)).c_str(), target,
                edge_text(reader, traits, name, ShownKeys::kInterned).c_str());
  });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  TargetName target;
  const std::string word = argv[1];
  if (std::all_of(word.begin(), word.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    target.pid = std::atoi(word.c_str());
  } else {
    target.core = word;
  }
  target.malloc_layout = LayoutSource::kTables;
  Timings timings;
  Result<Process> process = open_target(target, Progress::none(), timings);
  if (!process || process->runtime() == nullptr) {
    std::fprintf(stderr, "no Python in %s\n", word.c_str());
    return 3;
  }
  BlockTable blocks;
  const Census census = take_census(*process, Progress::none(), process->findings, &blocks);
  const PyTraits& traits = process->runtime()->traits;
  ObjectReader objects(process->snapshot, traits, *census.types);
  ReferenceReader references(process->snapshot, *process->runtime(), *census.types);
  std::string line;
  while (std::getline(std::cin, line)) {
    ObjectView object;
    const Addr address = std::strtoull(line.c_str(), nullptr, 0);
    if (objects.at(address, object)) {
      list(object, references, objects.reader(), traits);
    } else {
      std::printf("%#lx none\n", address);
    }
  }
  std::vector<OfType> by_type;
  for (BlockId id = 0; id < blocks.objects(); ++id) {
    ObjectView object;
    if (!objects.at(blocks.address(id), object) || !object.tracked) continue;
    if (object.type.id >= by_type.size()) by_type.resize(object.type.id + 1);
    OfType sums = by_type[object.type.id];
    ++sums.objects;
    references.for_each(object, [&](Addr to, RefKind kind, const EdgeName&) {
      if (kind == RefKind::kConservative) ++sums.conservative;
      if (kind != RefKind::kVisited) return;
      ++sums.references;
      sums.checksum += to;
    });
    if (object.type.id >= by_type.size()) by_type.resize(object.type.id + 1);
    by_type[object.type.id] = sums;
  }
  for (std::size_t id = 0; id < by_type.size(); ++id) {
    const OfType& sums = by_type[id];
    if (sums.objects == 0) continue;
    const TypeInfo& info = census.types->info(static_cast<TypeId>(id));
    std::printf("TYPE %#lx %s.%s %lu %lu %lu %lu\n", info.address, info.module.c_str(), info.name.c_str(), sums.objects,
                sums.references, sums.checksum, sums.conservative);
  }
  for (const Finding& finding : references.findings().kept())
    std::printf("FINDING %#lx %s\n", finding.address, finding.detail.c_str());
  return 0;
}

// heapcore_replay TARGET FOLDER: runs every file of the folder through the target, without libFuzzer. A crash of this
// program is a crash that a fuzzer found before, or a new one.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <vector>

#include "target.h"

int main(int argc, char** argv) {
  using namespace heapcore::fuzz;
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s TARGET FOLDER\n", argv[0]);
    return 2;
  }
  const Target* target = Target::first;
  while (target != nullptr && std::string_view(target->name) != argv[1]) target = target->next;
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(argv[2], error)) files.push_back(entry.path());
  if (target == nullptr || files.empty()) {
    std::fprintf(stderr, "%s: no such target, or no files in %s\n", argv[1], argv[2]);
    return 2;
  }
  std::sort(files.begin(), files.end());
  for (const std::filesystem::path& path : files) {
    std::ifstream file(path, std::ios::binary);
    const std::string contents((std::istreambuf_iterator<char>(file)), {});
    std::fprintf(stderr, "%s\n", path.filename().c_str());
    target->run({reinterpret_cast<const std::byte*>(contents.data()), contents.size()});
  }
  std::printf("%zu inputs\n", files.size());
  return 0;
}

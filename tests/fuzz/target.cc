#include "target.h"

#include <sys/mman.h>
#include <unistd.h>

namespace heapcore::fuzz {

const Target* Target::first = nullptr;

Target::Target(const char* its_name, void (*its_run)(Bytes)) : name(its_name), run(its_run), next(first) {
  first = this;
}

ScratchFile::ScratchFile(Bytes contents) : fd_(memfd_create("heapcore-fuzz", MFD_CLOEXEC)) {
  promise(fd_ >= 0, "a file in memory can be made");
  while (!contents.empty()) {
    const ssize_t written = write(fd_, contents.data(), contents.size());
    promise(written > 0, "a file in memory can be written");
    contents = contents.subspan(static_cast<std::size_t>(written));
  }
}

ScratchFile::~ScratchFile() {
  close(fd_);
}

}  // namespace heapcore::fuzz

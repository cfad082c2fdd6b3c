#include "coreparse/core_file.h"

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string_view>

#include "coreparse/live_proc.h"
#include "support/addr.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kLeastBytes = std::uint64_t{64} << 20;  // of room for what is unpacked

std::string_view compression_of(std::span<const std::byte> bytes) {
  const auto starts_with = [&](std::string_view magic) {
    return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
  };
  if (starts_with("\x28\xb5\x2f\xfd")) return "zstd";
  if (starts_with("\x04\x22\x4d\x18")) return "lz4";
  if (starts_with(std::string_view("\xfd"
                                   "7zXZ\0",
                                   6)))
    return "xz";
  if (starts_with("\x1f\x8b")) return "gzip";
  return {};
}

bool all_zero(const char* bytes, std::size_t n) {
  return n == 0 || (bytes[0] == 0 && std::memcmp(bytes, bytes + 1, n - 1) == 0);
}

struct ArchiveCloser {
  void operator()(archive* a) const { archive_read_free(a); }
};

// Unpacks one stream into an Image that grows as it goes.
class Unpacker {
 public:
  Unpacker(const std::string& path, std::string_view method, Findings& findings, Progress& progress)
      : path_(path), method_(method), findings_(findings), progress_(progress) {}

  Result<Image> run(std::span<const std::byte> packed) {
    const std::unique_ptr<archive, ArchiveCloser> reader(archive_read_new());
    // Each by name, and raw: no archive formats, and no filter that libarchive would run as an external program.
    archive_read_support_filter_zstd(reader.get());
    archive_read_support_filter_lz4(reader.get());
    archive_read_support_filter_xz(reader.get());
    archive_read_support_filter_gzip(reader.get());
    archive_read_support_format_raw(reader.get());
    archive_entry* entry = nullptr;
    if (archive_read_open_memory(reader.get(), packed.data(), packed.size()) != ARCHIVE_OK ||
        archive_read_next_header(reader.get(), &entry) != ARCHIVE_OK) {
      if (lacks_memory(reader.get())) return no_memory(fmt::format("no memory to unpack {}", path_));
      return Error{ErrorCode::kNotACore,
                   fmt::format("{} looks like {} but does not unpack: {}", path_, method_, reason(reader.get())),
                   "check that the file was copied whole"};
    }
    Result<Image> image = Image::reserve(std::max<std::uint64_t>(packed.size() * 4, kLeastBytes));
    if (!image) image = Image::reserve(kLeastBytes);
    if (!image) return image.error();
    progress_.begin("decompress", packed.size());
    const Status status = unpack(reader.get(), *image);
    progress_.end();
    if (!status) return status.error();
    if (size_ == 0 || !image->resize(size_)) {
      return Error{ErrorCode::kNotACore, fmt::format("{} holds nothing that unpacks", path_),
                   "check that the file was copied whole"};
    }
    return image;
  }

 private:
  static std::string reason(archive* reader) {
    const char* text = archive_error_string(reader);
    return text == nullptr ? "the stream is damaged" : text;
  }

  // libarchive says so in words, where the library below it does.
  static bool lacks_memory(archive* reader) {
    const std::string text = reason(reader);
    return archive_errno(reader) == ENOMEM || text.find("lloca") != std::string::npos;
  }

  Error no_memory(std::string message) const {
    return {ErrorCode::kNoMemory, std::move(message),
            fmt::format("unpack it to a disk first ({} -d) and open that file, or raise --max-memory if it was given",
                        method_)};
  }

  Status unpack(archive* reader, Image& image) {
    const std::uint64_t budget = live::available_memory_bytes() / 10 * 9;
    std::int64_t consumed = 0;
    for (;;) {
      // Block by block: archive_read_data() would drop what it already copied when the next block is damaged.
      const void* block = nullptr;
      std::size_t size = 0;
      la_int64_t offset = 0;
      const int status = archive_read_data_block(reader, &block, &size, &offset);
      if (status == ARCHIVE_EOF) return std::monostate{};
      if (status < ARCHIVE_OK && lacks_memory(reader)) return no_memory(fmt::format("no memory to unpack {}", path_));
      if (status < ARCHIVE_OK) {
        findings_.add({"core-stream-damaged", Room::kCoreparse, 0,
                       fmt::format("{}'s {} stream ends early after {} unpacked bytes ({}); what follows is missing",
                                   path_, method_, size_, reason(reader))});
        return std::monostate{};
      }
      if (!store(image, {static_cast<const char*>(block), size}) || resident_ > budget) {
        return no_memory(
            fmt::format("{} unpacks to more than the {} MiB of memory available here", path_, budget >> 20));
      }
      const std::int64_t now = archive_filter_bytes(reader, -1);
      progress_.advance(static_cast<std::uint64_t>(std::max<std::int64_t>(now - consumed, 0)));
      consumed = now;
    }
  }

  // Appends, leaving pages of zeros untouched.
  bool store(Image& image, std::string_view bytes) {
    if (size_ + bytes.size() > image.bytes().size()) {
      const std::uint64_t needed = size_ + bytes.size();
      const std::uint64_t roomy = std::max(image.bytes().size() * 2, needed);
      if (!image.resize(roomy) && !image.resize(needed + kLeastBytes)) return false;
    }
    while (!bytes.empty()) {
      const std::size_t n = std::min<std::size_t>(bytes.size(), live::kPageBytes - size_ % live::kPageBytes);
      if (!all_zero(bytes.data(), n)) {
        std::memcpy(image.writable().data() + size_, bytes.data(), n);
        resident_ += live::kPageBytes;
      }
      size_ += n;
      bytes.remove_prefix(n);
    }
    return true;
  }

  const std::string& path_;
  std::string_view method_;
  Findings& findings_;
  Progress& progress_;
  std::uint64_t size_ = 0;
  std::uint64_t resident_ = 0;
};

}  // namespace

Result<Image> read_core_file(const std::string& path, Findings& findings, Progress& progress) {
  Result<Image> file = Image::map_file(path);
  if (!file) return file;
  if (file->bytes().empty()) {
    return Error{ErrorCode::kNotACore, fmt::format("{} is empty", path),
                 "a core is empty when the disk was full or ulimit -c cut it off; check both and take it again"};
  }
  const std::string_view method = compression_of(file->bytes());
  if (method.empty()) return file;
  return Unpacker(path, method, findings, progress).run(file->bytes());
}

}  // namespace heapcore

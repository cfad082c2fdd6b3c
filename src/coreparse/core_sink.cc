#include "coreparse/core_sink.h"

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace heapcore {
namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::array<std::byte, std::size_t{1} << 16> kZeros{};

// Appends to a descriptor, and says why if it cannot.
class Descriptor {
 public:
  Descriptor(int descriptor, const SinkOptions& options) : descriptor_(descriptor), options_(options) {}

  bool append(std::span<const std::byte> bytes, std::uint64_t& stored_bytes) {
    if (options_.most_bytes != 0 && bytes.size() > options_.most_bytes - std::min(stored_bytes, options_.most_bytes)) {
      too_large_ = true;
      return false;
    }
    while (!bytes.empty()) {
      const ssize_t n = ::write(descriptor_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        error_number_ = errno;
        return false;
      }
      bytes = bytes.subspan(static_cast<std::size_t>(n));
      stored_bytes += static_cast<std::uint64_t>(n);
    }
    return true;
  }

  // `number`: of the failure, where append() is not what failed.
  Error error(int number = 0) const {
    if (too_large_) {
      return {ErrorCode::kIo,
              fmt::format("{} would take more than the {} bytes allowed", options_.name, options_.most_bytes),
              "allow more, or free some"};
    }
    return {ErrorCode::kIo,
            fmt::format("{} could not be written whole: {}", options_.name,
                        errno_text(error_number_ != 0 ? error_number_ : number)),
            hint(error_number_ != 0 ? error_number_ : number)};
  }

  int get() const { return descriptor_; }

 private:
  static std::string hint(int number) {
    if (number == ENOSPC || number == EDQUOT) return "free space there, write elsewhere, or end the name in .zst";
    if (number == EFBIG) return "raise the limit on the size of files (ulimit -f), or end the name in .zst";
    if (number == EPIPE) return "whoever was reading it has ended";
    return "write elsewhere";
  }

  int descriptor_;
  const SinkOptions& options_;
  int error_number_ = 0;
  bool too_large_ = false;
};

// Pages of zeros become holes, where what is written can have any.
class SparseSink : public CoreSink {
 public:
  SparseSink(int descriptor, const SinkOptions& options)
      : options_(options), out_(descriptor, options_), seekable_(::lseek(descriptor, 0, SEEK_CUR) >= 0) {}

  Status write(std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      const bool zero = is_zero_page(bytes);
      std::size_t n = std::min(bytes.size(), kPageBytes);
      while (n < bytes.size() && is_zero_page(bytes.subspan(n)) == zero) n = std::min(bytes.size(), n + kPageBytes);
      const Status status = zero ? zeros(n) : data(bytes.first(n));
      if (!status) return status;
      bytes = bytes.subspan(n);
    }
    return std::monostate{};
  }

  Status zeros(std::uint64_t n) override {
    if (seekable_) {
      if (::lseek(out_.get(), static_cast<off_t>(n), SEEK_CUR) < 0) return out_.error(errno);
      return std::monostate{};
    }
    for (; n > 0; n -= std::min<std::uint64_t>(n, kZeros.size())) {
      const Status status = data(std::span(kZeros).first(std::min<std::uint64_t>(n, kZeros.size())));
      if (!status) return status;
    }
    return std::monostate{};
  }

  Status finish() override {
    if (seekable_ && ::ftruncate(out_.get(), ::lseek(out_.get(), 0, SEEK_CUR)) != 0) return out_.error(errno);
    return std::monostate{};
  }

 private:
  static bool is_zero_page(std::span<const std::byte> bytes) {
    return bytes.size() >= kPageBytes && std::memcmp(bytes.data(), kZeros.data(), kPageBytes) == 0;
  }

  Status data(std::span<const std::byte> bytes) {
    if (out_.append(bytes, stored_bytes_)) return std::monostate{};
    return out_.error();
  }

  SinkOptions options_;
  Descriptor out_;
  bool seekable_;
};

struct ArchiveCloser {
  void operator()(archive* a) const { archive_write_free(a); }
};
struct EntryCloser {
  void operator()(archive_entry* e) const { archive_entry_free(e); }
};

class ZstdSink : public CoreSink {
 public:
  ZstdSink(int descriptor, const SinkOptions& options) : options_(options), out_(descriptor, options_) {}

  Status open() {
    // Named, and raw: no archive around it, and no external program. Level 1: the target may be waiting.
    archive* a = archive_.get();
    archive_write_add_filter_zstd(a);
    archive_write_set_options(a, "zstd:compression-level=1");
    archive_write_set_format_raw(a);
    archive_write_set_bytes_per_block(a, 1 << 20);
    archive_write_set_bytes_in_last_block(a, 1);  // no padding
    const std::unique_ptr<archive_entry, EntryCloser> entry(archive_entry_new());
    if (a == nullptr || entry == nullptr) return no_memory();
    archive_entry_set_filetype(entry.get(), AE_IFREG);
    if (archive_write_open(a, this, nullptr, append, nullptr) != ARCHIVE_OK) return failed();
    return archive_write_header(a, entry.get()) == ARCHIVE_OK ? Status(std::monostate{}) : failed();
  }

  Status write(std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      const la_ssize_t n = archive_write_data(archive_.get(), bytes.data(), bytes.size());
      if (n <= 0) return failed();
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return std::monostate{};
  }

  Status zeros(std::uint64_t n) override {
    while (n > 0) {
      const std::size_t part = std::min<std::uint64_t>(n, kZeros.size());
      const Status status = write(std::span(kZeros).first(part));
      if (!status) return status;
      n -= part;
    }
    return std::monostate{};
  }

  Status finish() override {
    return archive_write_close(archive_.get()) == ARCHIVE_OK ? Status(std::monostate{}) : failed();
  }

 private:
  static la_ssize_t append(archive* a, void* self, const void* bytes, std::size_t n) {
    auto& sink = *static_cast<ZstdSink*>(self);
    if (sink.out_.append({static_cast<const std::byte*>(bytes), n}, sink.stored_bytes_)) {
      return static_cast<la_ssize_t>(n);
    }
    sink.write_failed_ = true;
    archive_set_error(a, EIO, "write");
    return ARCHIVE_FATAL;
  }

  Status failed() const {
    if (write_failed_) return out_.error();
    const char* text = archive_ == nullptr ? nullptr : archive_error_string(archive_.get());
    return Error{ErrorCode::kIo,
                 fmt::format("{} cannot be compressed: {}", options_.name, text == nullptr ? "no reason given" : text),
                 "leave .zst off the name"};
  }
  Status no_memory() const {
    return Error{ErrorCode::kNoMemory, fmt::format("no memory to compress {}", options_.name),
                 "leave .zst off the name"};
  }

  SinkOptions options_;
  Descriptor out_;
  bool write_failed_ = false;
  std::unique_ptr<archive, ArchiveCloser> archive_{archive_write_new()};
};

}  // namespace

Result<std::unique_ptr<CoreSink>> make_core_sink(int descriptor, const SinkOptions& options) {
  if (!options.compress) return std::unique_ptr<CoreSink>(std::make_unique<SparseSink>(descriptor, options));
  auto sink = std::make_unique<ZstdSink>(descriptor, options);
  const Status opened = sink->open();
  if (!opened) return opened.error();
  return std::unique_ptr<CoreSink>(std::move(sink));
}

}  // namespace heapcore

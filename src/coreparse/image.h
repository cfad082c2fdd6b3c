// Storage for target bytes: a file mapped read-only, or anonymous memory that was filled once.
//
// An Image owns one mapping of ours and unmaps it when it goes. Moving it does not move the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "support/result.h"

namespace heapcore {

class Image {
 public:
  Image() = default;
  ~Image();
  Image(Image&& other) noexcept;
  Image& operator=(Image&& other) noexcept;
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  // Maps a regular file. The file must not shrink meanwhile.
  static Result<Image> map_file(const std::string& path);
  static Result<Image> map_file_descriptor(int fd, const std::string& path);
  // Reserves address space for n bytes that read as zero and take memory only where written.
  static Result<Image> reserve(std::uint64_t n);

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // REQUIRES: made by reserve().
  std::span<std::byte> writable() { return {data_, size_}; }
  // Changes the size of a reserve()d image, keeping its contents. False if there is no room.
  bool resize(std::uint64_t n);

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace heapcore

// What a call gives back when it cannot start: a code, one sentence, one hint of what to do.
//
// Damage found in the target is not an error; it is a Finding, and the walk goes on. No exceptions cross rooms.
#pragma once

#include <cassert>
#include <string>
#include <utility>
#include <variant>

namespace heapcore {

enum class ErrorCode {
  kUsage,              // the request makes no sense
  kNotFound,           // no such file or process
  kNotPermitted,       // it exists and may not be read
  kNotACore,           // a file, but not an ELF core
  kWrongArchitecture,  // a core or a process of another machine, class or byte order
  kProcessGone,        // it ended while we looked
  kUnsupported,        // understood, and beyond what heapcore does
  kNoMemory,           // not enough memory here to hold it
  kIo,                 // the system failed to read or write
};

struct Error {
  ErrorCode code = ErrorCode::kIo;
  std::string message;  // one sentence: what happened, and where
  std::string hint;     // what to do next; may be empty
};

// "strerror(number)" as text, for the end of a message.
std::string errno_text(int number);

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  // REQUIRES: ok().
  T& operator*() {
    assert(ok());
    return *std::get_if<0>(&state_);
  }
  const T& operator*() const {
    assert(ok());
    return *std::get_if<0>(&state_);
  }
  T* operator->() { return &**this; }
  const T* operator->() const { return &**this; }

  // REQUIRES: !ok().
  const Error& error() const {
    assert(!ok());
    return *std::get_if<1>(&state_);
  }

 private:
  std::variant<T, Error> state_;
};

using Status = Result<std::monostate>;

}  // namespace heapcore

// How long each named pass took. `main` and every command read as a list of passes; --timings prints this list.
#pragma once

#include <chrono>
#include <exception>
#include <string_view>
#include <vector>

namespace heapcore {

class Timings {
 public:
  struct Pass {
    std::string_view name;
    double seconds = 0;
  };

  template <typename Work>
  auto time(std::string_view name, Work&& work) {
    const Stopwatch stopwatch(*this, name);
    return work();
  }

  const std::vector<Pass>& passes() const { return passes_; }
  // The innermost pass that an exception ended; empty if none did.
  std::string_view interrupted() const { return interrupted_; }

 private:
  class Stopwatch {
   public:
    Stopwatch(Timings& timings, std::string_view name)
        : timings_(timings), name_(name), start_(std::chrono::steady_clock::now()) {}
    ~Stopwatch() {
      if (std::uncaught_exceptions() > 0) {  // no memory, most likely: ask for none
        if (timings_.interrupted_.empty()) timings_.interrupted_ = name_;
        return;
      }
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
      timings_.passes_.push_back({name_, elapsed.count()});
    }
    Stopwatch(const Stopwatch&) = delete;
    Stopwatch& operator=(const Stopwatch&) = delete;

   private:
    Timings& timings_;
    std::string_view name_;
    std::chrono::steady_clock::time_point start_;
  };

  std::vector<Pass> passes_;
  std::string_view interrupted_;
};

}  // namespace heapcore

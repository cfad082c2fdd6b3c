#include "analysis/roots.h"

#include <algorithm>
#include <cstring>

#include "pyobj/frames.h"

namespace heapcore {
namespace {

constexpr std::uint64_t kWordBytes = 8;
constexpr std::uint64_t kMaxStackBytes = std::uint64_t{64} << 20;
// Of thread-local data on either side of the thread pointer, where it does not lie in the thread's stack: the static
// TLS blocks below, glibc's struct pthread above.
constexpr std::uint64_t kTlsBytesBelow = 8192;
constexpr std::uint64_t kTlsBytesAbove = 4096;

void sort_by_address(std::vector<AddrRange>& ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const AddrRange& a, const AddrRange& b) { return a.start < b.start; });
}

}  // namespace

std::string_view root_kind_name(RootKind kind) {
  switch (kind) {
    case RootKind::kFrame:
      return "frame";
    case RootKind::kThread:
      return "thread";
    case RootKind::kInterpreter:
      return "interpreter";
    case RootKind::kRuntime:
      return "runtime";
    case RootKind::kStatic:
      return "static";
    case RootKind::kStack:
      return "stack";
    case RootKind::kImmortal:
      return "immortal";
    case RootKind::kUnexplained:
      return "unexplained";
    case RootKind::kUnreachable:
      return "unreachable";
  }
  return "";
}

bool is_namespace(const PyRuntime& runtime, const RootWord& root) {
  if (root.kind != RootKind::kInterpreter) return false;
  const auto& fields = runtime.traits.layout->PyInterpreterState;
  for (const Interpreter& interpreter : runtime.interpreters) {
    for (const Field* field : {&fields.modules, &fields.imports_modules, &fields.sysdict, &fields.builtins}) {
      if (field->present() && root.place == interpreter.address + field->offset) return true;
    }
  }
  return false;
}

// One mapping may hold the stacks of many threads (glibc 2.42+); a thread's own ends with its struct pthread.
StackRanges stack_ranges(const Snapshot& snapshot, const Thread& thread) {
  StackRanges ranges;
  const Mapping* stack = snapshot.mapping_at(thread.sp);
  const Mapping* tls = snapshot.mapping_at(thread.thread_pointer);
  const Addr tls_end = thread.thread_pointer + kTlsBytesAbove;
  if (stack != nullptr) {
    const Addr start = align_down(thread.sp, kWordBytes);
    ranges.stack = {start, std::min(stack->end, start + kMaxStackBytes)};
    if (tls == stack && thread.thread_pointer >= start) {
      ranges.stack.end = std::min(ranges.stack.end, tls_end);
      return ranges;
    }
  }
  if (tls != nullptr) {
    const Addr below = thread.thread_pointer - std::min(thread.thread_pointer, kTlsBytesBelow);
    ranges.thread_local_data = {std::max(tls->start, below), std::min(tls->end, tls_end)};
  }
  return ranges;
}

RootFinder::RootFinder(const Process& process, TypeTable& types)
    : process_(process),
      runtime_(*process.runtime()),
      reader_(process.snapshot.space),
      references_(process.snapshot, runtime_, types) {
  const PyLayout& layout = *runtime_.traits.layout;
  // The thread state's own struct may be the beginning of a longer one (3.13+).
  const std::uint32_t thread_bytes = std::max(layout.PyThreadState.size_bytes, layout._PyThreadStateImpl.size_bytes);
  for (const Interpreter& interpreter : runtime_.interpreters) {
    for (const Addr thread : thread_states(reader_, runtime_, interpreter)) {
      add_structure(thread, thread_bytes, RootKind::kThread);
      const std::vector<Addr> frames = frames_of_thread(reader_, runtime_.traits, thread);
      frames_.insert(frames_.end(), frames.begin(), frames.end());
    }
  }
  for (const Interpreter& interpreter : runtime_.interpreters)
    add_structure(interpreter.address, layout.PyInterpreterState.size_bytes, RootKind::kInterpreter);
  if (runtime_.state != 0) add_structure(runtime_.state, layout._PyRuntimeState.size_bytes, RootKind::kRuntime);
}

void RootFinder::add_structure(Addr address, std::uint32_t size_bytes, RootKind kind) {
  structures_.push_back(address);
  named_.push_back({{address, address + size_bytes}, kind});
}

void RootFinder::exact(const Visit& visit) {
  for (const Addr frame : frames_) {
    if (frames_are_objects(runtime_.traits)) {
      visit({frame, RootKind::kFrame, frame, {}});
      continue;
    }
    references_.for_each_in_frame(frame, [&](Addr target, RefKind kind, const EdgeName& name) {
      if (kind != RefKind::kWeak) visit({target, RootKind::kFrame, frame, name});
    });
  }
}

void RootFinder::evaluation_stacks(const Visit& visit) {
  for (const Addr frame : frames_) {
    const AddrRange stack = evaluation_stack(reader_, runtime_.traits, frame);
    sweep(stack, RootKind::kFrame, [&](const RootWord& word) {
      const EdgeName name{What::kStack, "", 0, (word.place - stack.start) / kWordBytes};
      visit({align_down(word.target, kWordBytes), RootKind::kFrame, frame, name});
    });
  }
}

void RootFinder::words(const Visit& visit) {
  std::vector<AddrRange> all;
  for (const Named& named : named_) {
    // The main interpreter's state, and its first thread's, may lie inside of what comes later: theirs are the names.
    std::vector<AddrRange> inner;
    for (const Named& other : named_) {
      if (other.kind >= named.kind) break;
      if (named.range.contains(other.range.start)) inner.push_back(other.range);
    }
    sort_by_address(inner);
    sweep_around(named.range, named.kind, inner, visit);
    all.push_back(named.range);
  }
  sort_by_address(all);
  for (const Module& module : process_.snapshot.modules) {
    for (const AddrRange& range : process_.snapshot.variables_of(module))
      sweep_around(range, RootKind::kStatic, all, visit);
  }
}

void RootFinder::sweep_around(AddrRange range, RootKind kind, const std::vector<AddrRange>& inner, const Visit& visit) {
  Addr at = range.start;
  for (const AddrRange& each : inner) {
    if (each.end <= at || each.start >= range.end) continue;
    if (each.start > at) sweep({at, each.start}, kind, visit);
    at = std::max(at, each.end);
  }
  if (at < range.end) sweep({at, range.end}, kind, visit);
}

void RootFinder::stacks(const Visit& visit) {
  for (const Thread& thread : process_.snapshot.threads) {
    for (const std::uint64_t word : thread.user_regs) visit({word, RootKind::kStack, 0, {}});
    const StackRanges ranges = stack_ranges(process_.snapshot, thread);
    sweep(ranges.stack, RootKind::kStack, visit);
    sweep(ranges.thread_local_data, RootKind::kStack, visit);
  }
}

void RootFinder::sweep(AddrRange range, RootKind kind, const Visit& visit) {
  Addr at = align_up(range.start, kWordBytes);
  while (at + kWordBytes <= range.end) {
    const std::span<const std::byte> present = reader_.span_to_end(at);
    const std::size_t size = align_down(std::min<std::uint64_t>(present.size(), range.end - at), kWordBytes);
    for (std::size_t offset = 0; offset < size; offset += kWordBytes) {
      Addr word = 0;
      std::memcpy(&word, present.data() + offset, sizeof word);
      if (word != 0) visit({word, kind, at + offset, {}});
    }
    at += size;
    if (size != 0) continue;
    const Addr next = process_.snapshot.space.next_present(at + kWordBytes);
    if (next >= range.end) return;
    at = align_up(next, kWordBytes);
  }
}

}  // namespace heapcore

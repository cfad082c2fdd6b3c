#include "pyobj/frames.h"

#include <unordered_map>
#include <unordered_set>

namespace heapcore {
namespace {

constexpr std::size_t kMaxThreads = 1 << 16;
constexpr std::size_t kMaxFrames = 1 << 20;   // of one thread
constexpr std::uint64_t kMaxSlots = 1 << 20;  // of one frame
constexpr std::uint64_t kWordBytes = 8;

// enum _frameowner (Include/internal/pycore_frame.h): from here on a frame is the interpreter's own.
constexpr std::uint8_t kFirstOwnedByInterpreter = 3;

Addr load(Reader& reader, Addr base, const Field& field) {
  Addr value = 0;
  if (base != 0 && field.present()) reader.try_load(base + field.offset, value);
  return value;
}

// Follows a chain of pointers until it ends or bites itself.
template <typename Next>
std::vector<Addr> chain(Addr first, std::size_t most, Next&& next) {
  std::vector<Addr> found;
  std::unordered_set<Addr> seen;
  for (Addr at = first; at != 0 && found.size() < most && seen.insert(at).second; at = next(at)) found.push_back(at);
  return found;
}

}  // namespace

bool frames_are_objects(const PyTraits& traits) {
  return traits.layout->PyThreadState.frame.present();
}

std::vector<Addr> thread_states(Reader& reader, const PyRuntime& runtime, const Interpreter& interpreter) {
  const PyLayout& layout = *runtime.traits.layout;
  return chain(load(reader, interpreter.address, layout.PyInterpreterState.threads_head), kMaxThreads,
               [&](Addr thread) { return load(reader, thread, layout.PyThreadState.next); });
}

std::vector<EvaluationRun> frames_by_evaluation(Reader& reader, const PyTraits& traits, Addr thread) {
  const PyLayout& layout = *traits.layout;
  const auto& fields = layout.PyThreadState;
  std::vector<EvaluationRun> runs;
  if (frames_are_objects(traits)) {
    const auto f_back = [&](Addr frame) { return load(reader, frame, layout.PyFrameObject.f_back); };
    for (const Addr frame : chain(load(reader, thread, fields.frame), kMaxFrames, f_back)) runs.push_back({{frame}, 0});
    return runs;
  }
  // Each run has a _PyCFrame, which says where it was when the next began (3.11, 3.12), or begins with a frame of the
  // interpreter's own (3.12+); either is a variable of the loop's native frame.
  const std::vector<Addr> cframes = chain(load(reader, thread, fields.cframe), kMaxFrames,
                                          [&](Addr cframe) { return load(reader, cframe, layout._PyCFrame.previous); });
  std::unordered_map<Addr, Addr> starts;
  for (const Addr cframe : cframes) starts.try_emplace(load(reader, cframe, layout._PyCFrame.current_frame), cframe);
  const Addr first = cframes.empty() ? load(reader, thread, fields.current_frame)
                                     : load(reader, cframes.front(), layout._PyCFrame.current_frame);
  const auto previous = [&](Addr frame) { return load(reader, frame, layout._PyInterpreterFrame.previous); };
  bool begins = true;
  for (const Addr frame : chain(first, kMaxFrames, previous)) {
    std::uint8_t owner = 0;
    const bool present = reader.try_load(frame + layout._PyInterpreterFrame.owner.offset, owner);
    const auto start = starts.find(frame);
    begins = begins || start != starts.end();
    if (!present || owner >= kFirstOwnedByInterpreter) {
      if (!begins && runs.back().on_stack == 0) runs.back().on_stack = frame;
      begins = true;
      continue;
    }
    if (begins) runs.push_back({{}, start != starts.end() ? start->second : 0});
    runs.back().frames.push_back(frame);
    begins = false;
  }
  return runs;
}

std::vector<Addr> frames_of_thread(Reader& reader, const PyTraits& traits, Addr thread) {
  std::vector<Addr> frames;
  for (const EvaluationRun& run : frames_by_evaluation(reader, traits, thread))
    frames.insert(frames.end(), run.frames.begin(), run.frames.end());
  return frames;
}

Addr frame_code(Reader& reader, const PyTraits& traits, Addr frame) {
  const PyLayout& layout = *traits.layout;
  if (frames_are_objects(traits)) return load(reader, frame, layout.PyFrameObject.f_code);
  const auto& fields = layout._PyInterpreterFrame;
  // Low bits of references are flags from 3.14 on.
  return align_down(load(reader, frame, fields.f_code.present() ? fields.f_code : fields.f_executable), kWordBytes);
}

AddrRange evaluation_stack(Reader& reader, const PyTraits& traits, Addr frame) {
  const PyLayout& layout = *traits.layout;
  const Addr code = frame_code(reader, traits, frame);
  std::uint32_t locals = 0;
  std::uint32_t slots = 0;
  if (!reader.try_load(code + layout.PyCodeObject.co_stacksize.offset, slots) || slots > kMaxSlots) return {};
  Addr first = 0;
  if (frames_are_objects(traits)) {
    first = load(reader, frame, layout.PyFrameObject.f_valuestack);
  } else {
    if (!reader.try_load(code + layout.PyCodeObject.co_nlocalsplus.offset, locals) || locals > kMaxSlots) return {};
    first = frame + layout._PyInterpreterFrame.localsplus.offset + locals * kWordBytes;
  }
  return first == 0 ? AddrRange{} : AddrRange{first, first + slots * kWordBytes};
}

}  // namespace heapcore

#include "analysis/frame_holdings.h"

#include "pyobj/frames.h"

namespace heapcore {

FrameHoldings::FrameHoldings(const Process& process, const HeapGraph& graph)
    : graph_(graph), holder_(graph.blocks.size(), kNobody) {
  const PyRuntime& runtime = *process.runtime();
  Reader reader(process.snapshot.space);
  std::uint32_t thread = 0;
  for (const Interpreter& interpreter : runtime.interpreters) {
    for (const Addr state : thread_states(reader, runtime, interpreter)) {
      const std::vector<Addr> frames = frames_of_thread(reader, runtime.traits, state);
      for (auto frame = frames.rbegin(); frame != frames.rend(); ++frame) {
        numbers_.try_emplace(*frame, static_cast<std::uint32_t>(frames_.size()));
        frames_.push_back({*frame, thread, 0});
      }
      ++thread;
    }
  }
  std::vector<std::vector<NodeId>> held(frames_.size());
  std::vector<NodeId> others;
  for (const RootRef& root : graph.roots) {
    if (root.word.kind == RootKind::kStack) continue;
    const auto frame = root.word.kind == RootKind::kFrame ? numbers_.find(root.word.place) : numbers_.end();
    (frame != numbers_.end() ? held[frame->second] : others).push_back(root.target);
  }
  give_to_others(std::move(others));
  std::vector<NodeId> contested;
  for (std::uint32_t frame = 0; frame < frames_.size(); ++frame) claim(frame, std::move(held[frame]), contested);
  give_to_others(std::move(contested));
  for (NodeId node = 0; node < graph.blocks.size(); ++node) {
    if (holder_[node] >= kOthers) continue;
    Frame& frame = frames_[holder_[node]];
    if (frame.address != graph.blocks.address(node)) frame.bytes += graph.blocks.bytes(node);
  }
}

void FrameHoldings::give_to_others(std::vector<NodeId> pending) {
  const auto meet = [&](NodeId node) {
    if (holder_[node] == kOthers) return;
    holder_[node] = kOthers;
    pending.push_back(node);
  };
  std::vector<NodeId> from;
  from.swap(pending);
  for (const NodeId node : from) meet(node);
  while (!pending.empty()) {
    const NodeId node = pending.back();
    pending.pop_back();
    for (const NodeId to : graph_.out.row(node)) meet(to);
  }
}

// What a frame of the same thread has taken already is a caller's.
void FrameHoldings::claim(std::uint32_t frame, std::vector<NodeId> pending, std::vector<NodeId>& contested) {
  while (!pending.empty()) {
    const NodeId node = pending.back();
    pending.pop_back();
    std::uint32_t& holder = holder_[node];
    if (holder == kNobody) {
      holder = frame;
      for (const NodeId to : graph_.out.row(node)) pending.push_back(to);
    } else if (holder != kOthers && frames_[holder].thread != frames_[frame].thread) {
      contested.push_back(node);
    }
  }
}

FrameHolder FrameHoldings::holder(NodeId node, Addr frame) const {
  const auto number = numbers_.find(frame);
  if (number == numbers_.end() || holder_[node] >= kOthers) return FrameHolder::kOthers;
  if (holder_[node] == number->second) return FrameHolder::kFrameAlone;
  return frames_[holder_[node]].thread == frames_[number->second].thread ? FrameHolder::kCaller : FrameHolder::kOthers;
}

std::uint64_t FrameHoldings::bytes(Addr frame) const {
  const auto number = numbers_.find(frame);
  return number == numbers_.end() ? 0 : frames_[number->second].bytes;
}

}  // namespace heapcore

// What running functions hold: the blocks that all their roots' ways lead through one thread's frames, and which of
// them goes with which frame.
//
// A frame ends after those it called, so what a frame and its callees hold and nobody else goes with that frame; what
// several of its locals hold together counts once. Native stacks are those of C code that frames called, so what they
// hold besides makes no difference. 4 bytes a node; every node is met at most twice.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "analysis/heap_graph.h"

namespace heapcore {

// Who holds what a frame's local refers to.
enum class FrameHolder : std::uint8_t { kFrameAlone, kCaller, kOthers };

class FrameHoldings {
 public:
  // Keeps a reference to the graph. REQUIRES: process.runtime() != nullptr.
  FrameHoldings(const Process& process, const HeapGraph& graph);

  FrameHolder holder(NodeId node, Addr frame) const;
  // The allocators', of all that goes when the frame ends. A frame that is an object is not counted itself.
  std::uint64_t bytes(Addr frame) const;

 private:
  static constexpr std::uint32_t kNobody = ~std::uint32_t{0};
  static constexpr std::uint32_t kOthers = kNobody - 1;

  struct Frame {
    Addr address = 0;
    std::uint32_t thread = 0;
    std::uint64_t bytes = 0;
  };

  void give_to_others(std::vector<NodeId> pending);
  void claim(std::uint32_t frame, std::vector<NodeId> pending, std::vector<NodeId>& contested);

  const HeapGraph& graph_;
  std::vector<Frame> frames_;  // by thread, the outermost first
  std::unordered_map<Addr, std::uint32_t> numbers_;
  std::vector<std::uint32_t> holder_;  // by node: the place in frames_, kOthers, or kNobody
};

}  // namespace heapcore

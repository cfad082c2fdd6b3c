// What is at an address: which mapping and module, which chunk of malloc, which block of CPython's allocator, which
// object, and what that is.
//
// An address inside an object, or inside the header before it, is the object's. A free block holds no object, whatever
// still lies there. In static data, where no allocator says where objects begin, an object is looked for backwards from
// the address.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "analysis/process.h"
#include "glibc_heap/places.h"
#include "pyobj/mimalloc.h"
#include "pyobj/obmalloc.h"
#include "pyobj/values.h"

namespace heapcore {

enum class BlockState : std::uint8_t { kInUse, kFree, kNeverUsed, kHeader };

// A block of obmalloc or mimalloc, in the words of the first.
struct BlockPlace {
  const char* allocator = "obmalloc";
  Addr arena = 0;  // mimalloc: the segment
  Addr pool = 0;   // mimalloc: the page's first block
  Addr address = 0;
  std::uint64_t block_bytes = 0;  // 0 in the header of a pool, or in one that never had a class
  BlockState state = BlockState::kHeader;
  // Of a build without the GIL: the page tells whether its blocks hold objects, and how far inside.
  bool by_page = false;
  bool holds_objects = true;
  std::uint32_t header_bytes = 0;
};

struct SeenObject {
  Addr address = 0;
  std::string type;  // "module.qualname"
  Addr type_address = 0;
  Kind kind = Kind::kUnknown;
  std::int64_t refcount = 0;
  bool immortal = false;
  bool tracked = false;
  std::uint64_t bytes = 0;  // sys.getsizeof
  Value value;
};

struct Sight {
  Addr address = 0;
  const Mapping* mapping = nullptr;
  const Module* module = nullptr;
  std::string symbol;               // the nearest at or before the address, "PyType_Type+16"; empty where none is known
  std::optional<Place> chunk;       // of malloc
  std::optional<BlockPlace> block;  // of CPython's allocator
  std::optional<SeenObject> object;
};

class Observer {
 public:
  // REQUIRES: `process` outlives it. Findings go to process.findings.
  Observer(Process& process, const ValueOptions& options);

  Sight look(Addr address);

 private:
  std::optional<BlockPlace> pool_block(Addr address);
  std::optional<BlockPlace> page_block(Addr address);
  bool find_object(const Sight& sight, ObjectView& object);
  bool recognise(Addr block, std::uint64_t bytes, const BlockPlace* place, ObjectView& object);
  bool static_object(Addr address, ObjectView& object);
  SeenObject describe(const ObjectView& object);
  std::uint64_t room(Addr object);

  Process& process_;
  Reader reader_;
  std::vector<PyArena> arenas_;
  std::vector<MiSegment> segments_;
  std::vector<Addr> delayed_;
  std::unique_ptr<TypeTable> types_;
  std::optional<ObjectReader> objects_;
  std::optional<ValueReader> values_;
};

}  // namespace heapcore

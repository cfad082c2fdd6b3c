// A library that a Python process loads with ctypes: it allocates known numbers of objects of known classes, and other
// blocks of known size and content, and holds most of them in its own variables. Built by tests/live/test_native.py.
//
// Nothing but the extern "C" functions is exported, so that a stripped build has no symbols of vtables.
#include <malloc.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace shop {

struct Item {
  virtual ~Item() = default;
  virtual long price() const = 0;
  long code = 0x1111;
};

struct Order : Item {
  long price() const override { return lines[0]; }
  long lines[5] = {};
};

struct Named {
  virtual ~Named() = default;
  long name[2] = {};
};

struct Invoice : Named, virtual Order {
  long price() const override { return 2; }
  long extra[9] = {};
};

template <typename T>
struct Box : Item {
  long price() const override { return 3; }
  T content[20] = {};
};

struct Plain {  // without virtual functions: no vtable, no class
  long words[31];
};

}  // namespace shop

namespace {

struct Hidden : shop::Item {
  long price() const override { return 4; }
  char room[100] = {};
};

struct Ops {
  long (*price)(const shop::Item*);
};

long call_price(const shop::Item* item) {
  return item->price();
}

const Ops kOps = {call_price};

void* held[20000];
long held_count = 0;
shop::Item* volatile lost = nullptr;

template <typename T>
T* hold(T* block) {
  held[held_count++] = block;
  return block;
}

long taken[6];

template <typename T>
T* take(T* block, int number) {
  taken[number] += static_cast<long>(malloc_usable_size(block)) + 8;
  return block;
}

unsigned char* block(std::size_t bytes) {
  return static_cast<unsigned char*>(std::memset(std::malloc(bytes), 0, bytes));
}

}  // namespace

extern "C" {

// What malloc gave for the objects of the class of this number, headers included.
__attribute__((visibility("default"))) long taken_bytes(long number) {
  return taken[number];
}

__attribute__((visibility("default"))) void make(long orders, long invoices, long boxes, long hidden, long arrays) {
  for (long i = 0; i < orders; ++i) hold(take(new shop::Order, 0));
  for (long i = 0; i < invoices; ++i) hold(take(new shop::Invoice, 1));
  for (long i = 0; i < boxes; ++i) hold(take(new shop::Box<int>, 2));
  for (long i = 0; i < hidden; ++i) hold(take(new Hidden, 3));
  for (long i = 0; i < arrays; ++i) hold(take(reinterpret_cast<long*>(new shop::Order[7]) - 1, 4));
}

// Objects that nothing leads to.
__attribute__((visibility("default"))) void leak(long boxes) {
  for (long i = 0; i < boxes; ++i) lost = take(new shop::Box<char>, 5);
  lost = nullptr;
}

__attribute__((visibility("default"))) void fill(long count, long bytes, const char* content) {
  std::uint64_t seed = 0x9e3779b97f4a7c15;
  for (long i = 0; i < count; ++i) {
    unsigned char* const at = hold(block(static_cast<std::size_t>(bytes)));
    if (std::strcmp(content, "text") == 0) {
      for (long j = 0; j + 25 < bytes; j += 24) std::memcpy(at + j, "the secret of the order ", 24);
    } else if (std::strcmp(content, "high entropy") == 0) {
      for (long j = 0; j < bytes; ++j) {
        seed = seed * 6364136223846793005 + 1442695040888963407;
        at[j] = static_cast<unsigned char>(seed >> 56);
      }
    } else if (std::strcmp(content, "pointers") == 0) {
      for (long j = 0; j + 8 <= bytes; j += 8) std::memcpy(at + j, &held[0], 8);
    } else if (std::strcmp(content, "small numbers") == 0) {
      for (long j = 0; j + 8 <= bytes; j += 8) std::memcpy(at + j, &j, 8);
    } else if (std::strcmp(content, "ops") == 0) {
      const Ops* const ops = &kOps;
      std::memcpy(at, &ops, 8);
      std::memset(at + 8, 0x7f, 200);
    }
  }
}
}

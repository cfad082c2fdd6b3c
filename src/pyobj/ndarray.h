// numpy's arrays, 1.x and 2.x. Their layout is numpy's ABI, the same for all builds of a major version; no table has
// it.
//
// Sources: numpy/core/include/numpy/ndarraytypes.h (PyArrayObject_fields, PyArray_Descr) of 1.19 to 2.4; array_sizeof
// in numpy/core/src/multiarray/methods.c.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "coreparse/address_space.h"
#include "pyobj/py_traits.h"

namespace heapcore {

struct NdArray {
  bool sound = false;  // no more dimensions than numpy allows, a dtype at hand
  Addr data = 0;
  Addr base = 0;   // the object whose memory it shows; 0 if none
  Addr descr = 0;  // its dtype
  std::vector<std::uint64_t> shape;
  std::vector<std::int64_t> strides;
  std::uint64_t item_bytes = 0;
  std::uint64_t elements = 0;
  bool owns_data = false;
  std::string dtype;  // "float64", "S10"

  std::uint64_t data_bytes() const;  // 0 where the product makes no sense
  // What sys.getsizeof adds to tp_basicsize.
  std::uint64_t extra_bytes() const { return shape.size() * 16 + (owns_data ? data_bytes() : 0); }
};

// REQUIRES: an ndarray is at `address`.
NdArray read_ndarray(Reader& reader, Addr address);

// Where in an item of a dtype with fields there are references to objects, and how many bytes an item has. At most
// 1,024 are found.
struct ItemObjects {
  std::vector<std::uint64_t> offsets;
  std::uint64_t item_bytes = 0;
};
ItemObjects objects_in_item(Reader& reader, const PyTraits& traits, Addr descr);

}  // namespace heapcore

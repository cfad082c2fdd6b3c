#include "pyobj/py_layout.h"

namespace heapcore {

std::span<const PyTable> py_tables() {
  static const PyTable tables[] = {
#include "pyobj/layouts/cpython_3_11.inc"
  };
  return tables;
}

}  // namespace heapcore

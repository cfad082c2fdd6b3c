#include "pyobj/py_layout.h"

namespace heapcore {

std::span<const PyTable> py_tables() {
  static const PyTable tables[] = {
#include "pyobj/layouts/cpython_2_7_11.inc"
#include "pyobj/layouts/cpython_2_7_11d.inc"
#include "pyobj/layouts/cpython_2_7_18.inc"
#include "pyobj/layouts/cpython_2_7_18d.inc"
#include "pyobj/layouts/cpython_3_10_13.inc"
#include "pyobj/layouts/cpython_3_10_4.inc"
#include "pyobj/layouts/cpython_3_11.inc"
#include "pyobj/layouts/cpython_3_12.inc"
#include "pyobj/layouts/cpython_3_13_0.inc"
#include "pyobj/layouts/cpython_3_13_0t.inc"
#include "pyobj/layouts/cpython_3_13_15.inc"
#include "pyobj/layouts/cpython_3_13_15d.inc"
#include "pyobj/layouts/cpython_3_13_15t.inc"
#include "pyobj/layouts/cpython_3_13_5.inc"
#include "pyobj/layouts/cpython_3_13_5d.inc"
#include "pyobj/layouts/cpython_3_13t.inc"
#include "pyobj/layouts/cpython_3_14_0.inc"
#include "pyobj/layouts/cpython_3_14_0d.inc"
#include "pyobj/layouts/cpython_3_14_10.inc"
#include "pyobj/layouts/cpython_3_14_10t.inc"
#include "pyobj/layouts/cpython_3_14_4.inc"
#include "pyobj/layouts/cpython_3_14_4d.inc"
#include "pyobj/layouts/cpython_3_14_8.inc"
#include "pyobj/layouts/cpython_3_14_8d.inc"
#include "pyobj/layouts/cpython_3_14_8t.inc"
#include "pyobj/layouts/cpython_3_14t.inc"
#include "pyobj/layouts/cpython_3_15.inc"
#include "pyobj/layouts/cpython_3_15_0d.inc"
#include "pyobj/layouts/cpython_3_15_2.inc"
#include "pyobj/layouts/cpython_3_15_2t.inc"
#include "pyobj/layouts/cpython_3_15t.inc"
#include "pyobj/layouts/cpython_3_6_15.inc"
#include "pyobj/layouts/cpython_3_6_5.inc"
#include "pyobj/layouts/cpython_3_6_5d.inc"
#include "pyobj/layouts/cpython_3_6_9.inc"
#include "pyobj/layouts/cpython_3_6_9d.inc"
#include "pyobj/layouts/cpython_3_7.inc"
#include "pyobj/layouts/cpython_3_8_0.inc"
#include "pyobj/layouts/cpython_3_8_18.inc"
#include "pyobj/layouts/cpython_3_9_18.inc"
#include "pyobj/layouts/cpython_3_9_2.inc"
  };
  return tables;
}

}  // namespace heapcore

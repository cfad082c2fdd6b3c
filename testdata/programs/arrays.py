"""numpy arrays of many kinds, and what numpy says of them.

    python arrays.py DIRECTORY

writes into DIRECTORY arrays.json, [{"name", "address", "bytes", "fields": {name: text}}], then one byte to standard
output, and then it sleeps. Exits with status 3 where numpy cannot be imported.
"""

import json
import os
import signal
import sys

try:
    import numpy
except ImportError:
    sys.exit(3)


class Child(numpy.ndarray):
    pass


def make():
    whole = numpy.arange(12.0).reshape(3, 4)
    yield "none", numpy.array(5)
    yield "vector", numpy.arange(10)
    yield "empty", numpy.zeros((0, 3))
    yield "matrix", whole
    yield "view", whole[1:, ::2]
    yield "transposed", whole.T
    yield "copied", whole.copy()
    for dtype in ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16",
                  "float32", "float64", "complex64", "complex128", "S10", "U7", "V3"):
        yield dtype, numpy.zeros(5, dtype)
    yield "objects", numpy.array([None, [1], "text"], dtype=object)
    yield "records", numpy.zeros(3, [("key", "i4"), ("value", "f8")])
    yield "days", numpy.zeros(2, "datetime64[D]")
    yield "long double", numpy.zeros(2, "longdouble")
    yield "of bytes", numpy.frombuffer(b"0123456789abcdef", "int32")
    yield "big", numpy.ones((1000, 1000))
    yield "five dimensions", numpy.zeros((2, 3, 4, 5, 6), "int8")
    yield "child", numpy.arange(4).view(Child)


def dtype_text(array):
    kind = array.dtype.kind
    if kind in "SV":
        return "%s%d" % (kind, array.dtype.itemsize)
    if kind == "U":
        return "U%d" % (array.dtype.itemsize // 4)
    return "longdouble" if array.dtype.char == "g" else array.dtype.name.split("[")[0]


def describe(name, array):
    fields = {"shape": str(tuple(int(n) for n in array.shape)), "strides": str(tuple(int(n) for n in array.strides)),
              "dtype": dtype_text(array), "itemsize": str(array.itemsize), "nbytes": str(array.nbytes),
              "owns data": str(bool(array.flags.owndata)), "data": hex(array.ctypes.data)}
    return {"name": name, "address": hex(id(array)), "bytes": sys.getsizeof(array), "fields": fields,
            "base": None if array.base is None else hex(id(array.base))}


def main():
    arrays = dict(make())
    with open(os.path.join(sys.argv[1], "arrays.json"), "w") as file:
        json.dump({"numpy": numpy.__version__, "arrays": [describe(*item) for item in arrays.items()]}, file)
    os.write(1, b"R")
    while True:
        signal.pause()


if __name__ == "__main__":
    main()

"""A program with tracemalloc on, that allocates at many lines: in classes, comprehensions, recursions, other modules, and
blocks that no allocator of Python's knows. Then it tells what tracemalloc says (trace_truth.py).

    python -X tracemalloc=10 traced.py TRUTH_FILE
"""

import ctypes
import decimal
import json

import trace_truth


class Row:
    def __init__(self, number):
        self.name = "row %d" % number
        self.cells = [number, float(number)]


def deep(levels):
    return [levels, deep(levels - 1)] if levels else bytearray(3000)


def more():
    for number in range(1000):
        cache.append(Row(number))


cache = [Row(number) for number in range(5000)]
texts = {"key %d" % number: "x" * number for number in range(2000)}
nested = [deep(20) for _ in range(30)]
blobs = [bytes(100000) for _ in range(20)]
parsed = json.loads(json.dumps([{"a": [number, str(number)]} for number in range(500)]))
exact = [decimal.Decimal(number) / 7 for number in range(300)]
functions = [lambda x, number=number: x + number for number in range(200)]

track = getattr(ctypes.pythonapi, "PyTraceMalloc_Track", None) or ctypes.pythonapi._PyTraceMalloc_Track
track.argtypes = [ctypes.c_uint, ctypes.c_size_t, ctypes.c_size_t]
for number in range(10):
    track(77, 0x10000 + number * 0x1000, 4000)  # domain, address, size

trace_truth.tell(more)

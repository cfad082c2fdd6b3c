"""An extension takes a reference to each buffer that it is given, and never gives it back."""

import ctypes

import story

keep = ctypes.pythonapi.Py_IncRef
keep.argtypes = [ctypes.py_object]
let_go = ctypes.pythonapi.Py_DecRef
let_go.argtypes = [ctypes.py_object]


class Record:
    __slots__ = ("payload",)

    def __init__(self, number):
        self.payload = bytes(30000)


distances = []
first = id(story)
for number in range(1200):
    record = Record(number)
    keep(record)
    distances.append(id(record) - first)
del record


def cure():
    for distance in distances:
        let_go(ctypes.cast(first + distance, ctypes.py_object).value)


story.tell(cure)

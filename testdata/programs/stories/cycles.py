"""Frames of data and their accessors refer to each other, and the collector is off: the accessor cycle, in plain Python."""

import gc

import story


class Accessor:
    def __init__(self, frame):
        self._frame = frame


class Frame:
    def __init__(self, rows):
        self.data = bytearray(rows)
        self.table = Accessor(self)


gc.disable()
for _ in range(200):
    Frame(200000)
story.tell(gc.collect, types=["__main__.Accessor", "__main__.Frame"], edge="_frame", count=200)

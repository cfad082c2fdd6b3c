"""The accessor cycle with pandas: an accessor that its DataFrame caches holds the frame, so neither goes without the collector."""

import gc

import numpy
import pandas

import story


@pandas.api.extensions.register_dataframe_accessor("table")
class TableAccessor:
    def __init__(self, frame):
        self._dataframe = frame

    def total(self):
        return float(self._dataframe.iloc[:, 0].sum())


gc.collect()
gc.disable()
for _ in range(60):
    pandas.DataFrame(numpy.ones((40000, 6))).table.total()
story.tell(gc.collect, types=["TableAccessor", "DataFrame"], edge="_dataframe", count=60)

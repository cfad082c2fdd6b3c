"""A batch is over. One row in fifty survives, and each keeps an arena of small blocks from going back."""

import story


class Row:
    __slots__ = ("key", "text")

    def __init__(self, key):
        self.key = key
        self.text = "row %d of the nightly batch" % key


rows = [Row(key) for key in range(1000000, 1500000)]
survivors = rows[::50]
del rows
story.tell(survivors.clear, type="__main__.Row", path="__main__.survivors", count=len(survivors))

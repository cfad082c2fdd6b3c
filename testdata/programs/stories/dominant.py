"""One thing in one place: a table that a function loaded and still holds."""

import story


class Table:
    def __init__(self):
        self.columns = [bytearray(6 << 20) for _ in range(8)]


def work():
    table = Table()

    def cure():
        del table.columns

    story.tell(cure)


work()

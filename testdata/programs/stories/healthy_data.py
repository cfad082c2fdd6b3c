"""Work with numpy and pandas, in the middle of it: the data is in use."""

import numpy
import pandas

import story


def work():
    rows = 300000
    frame = pandas.DataFrame({"key": numpy.arange(rows) % 1000, "x": numpy.random.rand(rows), "y": numpy.random.rand(rows)})
    means = frame.groupby("key").mean()
    joined = frame.join(means, on="key", rsuffix="_mean")
    joined["label"] = joined["key"].map("group {}".format).astype("category")
    total = joined["x"].sum() + means["y"].sum()
    story.tell(lambda: None, total=float(total))


work()

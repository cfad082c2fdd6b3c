"""The class keeps every instance that it ever made, in a dict on itself."""

import story


class Processor:
    instance_map = {}

    def __init__(self, job):
        self.job = job
        self.document = ("<td>%d</td>" % job) * 40
        self.options = {"currency": "EUR", "reference": "R%06d" % job}
        Processor.instance_map[job] = self


for job in range(40000):
    Processor(job)
story.tell(Processor.instance_map.clear, type="__main__.Processor", path="__main__.Processor.instance_map", count=40000)

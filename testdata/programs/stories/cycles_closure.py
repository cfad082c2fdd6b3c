"""Each request's handler is a closure that its request holds, and refers to the request; the collector is off."""

import gc

import story


class Request:
    def __init__(self, number):
        self.number = number
        self.body = b"x" * 30000

        def on_done():
            return self.number
        self.on_done = on_done


gc.disable()
for number in range(1500):
    Request(number)
story.tell(gc.collect, types=["__main__.Request", "function"], edge="on_done", count=1500)

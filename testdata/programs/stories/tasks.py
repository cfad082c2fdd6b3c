"""Each request starts a task, and all of them wait for what never comes."""

import asyncio

import story


class Feed:
    def __init__(self):
        self.news = []

    async def next(self):
        waiter = asyncio.get_running_loop().create_future()
        self.news.append(waiter)
        await waiter


async def serve(feed, number):
    page = bytearray(60000)
    await feed.next()
    return page, number


async def main():
    feed = Feed()
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(serve(feed, number)) for number in range(1500)]
    for _ in range(3):
        await asyncio.sleep(0)

    def cure():
        for task in tasks:
            task.cancel()
        loop.stop()

    story.tell(cure, payload_bytes=1500 * 60000)


asyncio.run(main())

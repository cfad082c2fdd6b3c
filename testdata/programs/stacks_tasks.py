"""asyncio tasks that wait, in a loop of a thread of its own: for stacks.py, which runs in older versions too."""

import asyncio
import threading


async def fetch(future):
    return await future


async def handle(future):
    return await fetch(future)


async def serve(tasks, started):
    loop = asyncio.get_running_loop()
    for _ in range(5):
        coroutine = handle(loop.create_future())
        tasks.append((loop.create_task(coroutine), coroutine))
    done = loop.create_task(asyncio.sleep(0))
    await done
    await asyncio.sleep(0)
    started.set()
    await asyncio.gather(*[task for task, _ in tasks])


def start(tasks):
    started = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve(tasks, started)), name="serves")
    thread.daemon = True
    thread.start()
    started.wait()

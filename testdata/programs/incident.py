"""Something of all that the report speaks of: a registry, cycles, garbage, a thread that waits; and secrets.

    python incident.py DIRECTORY

It writes "ready" when all is there. DIRECTORY/truth.json holds the secrets: what no report may show. They come from the
environment, as passwords do, so that none is a name in this source.
"""

import gc
import json
import os
import sys
import threading


class Job:
    registry = {}

    def __init__(self, number):
        self.number = number
        self.payload = bytearray(2000)
        Job.registry[number] = self


class Left:
    def __init__(self, size):
        self.ballast = bytearray(size)
        self.right = Right(self)


class Right:
    def __init__(self, left):
        self.left = left


class Session:
    """What a careless service keeps of its users."""


class Hostile(type(Session)):
    pass


def wait(event, work):
    event.wait()


def main():
    directory = sys.argv[1]
    password = os.environ["SERVICE_PASSWORD"]
    secrets = [password] + [password + suffix for suffix in ("-text", "-bytes", "-key", "-nested-key", "-attribute")]
    gc.collect()
    gc.disable()
    session = Session()
    session.token = secrets[1] * 2
    session.raw = secrets[2].encode() * 2
    session.by_key = {secrets[3]: bytearray(900000), secrets[4]: {secrets[4]: bytearray(700000)}}
    session.by_name = {sys.intern(password.replace("-", "_")): bytearray(800000)}
    setattr(session, "large", [secrets[5]] * 100000)
    setattr(session, secrets[5], bytearray(600000))
    main.session = session
    for number in range(2000):
        Job(number)
    for _ in range(50):
        Left(20000)
    for name in ("<script>alert(1)</script>", "</script><!--", "\"'&amp;", "\u202egnp.exe", "a\nb"):
        setattr(main, "hostile_" + str(len(name)), [type(name, (), {})() for _ in range(200)])
    event = threading.Event()
    thread = threading.Thread(target=wait, args=(event, bytearray(400000)), name="worker <b>bold</b>")
    thread.daemon = True
    thread.start()
    with open(os.path.join(directory, "truth.json"), "w") as file:
        json.dump({"secrets": secrets, "password": password}, file)
    os.write(1, b"R")
    event.wait()


main()

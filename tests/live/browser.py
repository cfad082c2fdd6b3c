"""A headless Chromium, driven through its DevTools protocol over a pair of pipes; what the page says, asks for and fails
at is kept."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

START_SECONDS = 60
ANSWER_SECONDS = 60


def program():
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    def __init__(self, width=1280, height=1000, dark=False):
        self.folder = tempfile.mkdtemp(prefix="heapcore-browser-")
        # DevTools: commands come in at descriptor 3, answers and events go out at 4; each ends with a NUL.
        read_commands, self.commands = os.pipe()
        self.answers, write_answers = os.pipe()
        moved = [os.dup(read_commands) for _ in range(8)]  # so that neither pipe is already 3 or 4

        def arrange():
            first, second = os.dup(read_commands), os.dup(write_answers)
            os.dup2(first, 3)
            os.dup2(second, 4)

        argv = [program(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
                "--user-data-dir=" + self.folder, "--window-size=%d,%d" % (width, height), "--remote-debugging-pipe"]
        env = {"PATH": "/usr/bin:/bin", "HOME": self.folder, "LANG": "C.UTF-8"}
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        env=env, close_fds=False, preexec_fn=arrange)
        for descriptor in moved + [read_commands, write_answers]:
            os.close(descriptor)
        self.buffer = b""
        self.number = 0
        self.events = []
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(domain + ".enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        if dark:
            self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.commands)
        os.close(self.answers)
        shutil.rmtree(self.folder, ignore_errors=True)

    def receive(self, seconds):
        deadline = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            if not select.select([self.answers], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            part = os.read(self.answers, 1 << 16)
            if not part:
                raise RuntimeError("the browser ended")
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive(ANSWER_SECONDS)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError("%s: %s" % (method, answer["error"]))
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    def open(self, path):
        self.events = []
        self.call("Page.navigate", url="file://" + os.path.abspath(path))
        deadline = time.monotonic() + START_SECONDS
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self.receive(max(0, deadline - time.monotonic())))
        time.sleep(0.3)  # for what the page might do afterwards
        self.evaluate("1")

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError("%s: %s" % (expression, answer["exceptionDetails"]["exception"].get("description")))
        return answer["result"].get("value")

    def click(self, selector):
        """With the mouse, in the middle of what is there to be seen."""
        quoted = json.dumps(selector)
        self.evaluate("document.querySelector(%s).scrollIntoView({block: 'center', behavior: 'instant'})" % quoted)
        x, y = self.evaluate("(() => { const r = document.querySelector(%s).getBoundingClientRect();"
                             "return [r.left + r.width / 2, r.top + r.height / 2]; })()" % quoted)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector, text):
        self.click(selector)
        self.call("Input.insertText", text=text)

    def screenshot(self, path, width, height, scale=1):
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True,
                         clip={"x": 0, "y": 0, "width": width, "height": height, "scale": scale})
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    def complaints(self):
        """Console errors and warnings, exceptions, violations of the page's policy."""
        said = []
        for event in self.events:
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                said.append("exception: %s" % params["exceptionDetails"])
            elif event["method"] == "Runtime.consoleAPICalled":
                said.append("console: %s" % params["args"])
            elif event["method"] == "Log.entryAdded":
                said.append("log: %s" % params["entry"]["text"])
        return said

    def requests(self):
        return [event["params"]["request"]["url"] for event in self.events
                if event["method"] == "Network.requestWillBeSent"]

"""A storage layer opens an HTTP session for each call, and keeps it.

    python sessions.py FILE

Says "ready" three times, each time after CALLS more calls; between them it waits for SIGUSR1. FILE then says how many
sessions there were at each point, by what the storage layer itself has counted.
"""

import http.server
import json
import os
import signal
import sys
import threading

import requests

CALLS = 400


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *arguments):
        pass


class Storage:
    def __init__(self, url):
        self.url = url
        self.sessions = []
        self.opened = 0

    def read(self, key):
        session = requests.Session()
        session.trust_env = False
        self.sessions.append(session)
        self.opened += 1
        if self.opened % 50 == 1:  # of the others that they are there is enough
            return session.get(self.url + key).text


def main():
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    storage = Storage("http://127.0.0.1:%d/" % server.server_port)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    opened = []
    for _ in range(3):
        for call in range(CALLS):
            storage.read("key-%d" % call)
        opened.append(storage.opened)
        with open(sys.argv[1] + ".partial", "w") as file:
            json.dump({"type": "requests.sessions.Session", "opened": opened}, file)
        os.rename(sys.argv[1] + ".partial", sys.argv[1])
        os.write(1, b".")
        signal.sigwait([signal.SIGUSR1])
    signal.pause()


storage_layer = main
if __name__ == "__main__":
    main()

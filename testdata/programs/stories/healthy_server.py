"""A threaded server that has answered its requests."""

import http.server
import json
import threading
import urllib.request

import story


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        rows = [{"id": number, "name": "row %d" % number} for number in range(2000)]
        body = json.dumps(rows).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer if hasattr(http.server, "ThreadingHTTPServer") else http.server.HTTPServer):
    daemon_threads = True


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()


def load():
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(30):
        json.loads(opener.open("http://127.0.0.1:%d/" % server.server_port).read().decode())


clients = [threading.Thread(target=load) for _ in range(4)]
for client in clients:
    client.start()
for client in clients:
    client.join()
story.tell(server.shutdown)

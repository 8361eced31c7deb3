"""For hooks.py and jobs.py: gateways and nodes of a scratch folder, requests to them, and servers that
webhooks go to."""

import base64
import hashlib
import hmac
import http.server
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request

SECONDS = 60


def wait_for(what, test, seconds=SECONDS):
    """Until test() is true; gives what it gave."""
    until = time.monotonic() + seconds
    while not (got := test()):
        assert time.monotonic() < until, f"{what}: not within {seconds} s"
        time.sleep(0.02)
    return got


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """A program of ours that says ready; started again with the same options."""

    def __init__(self, scratch, name, *command):
        self.log, self.command, self.process = f"{scratch}/{name}.log", command, None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=log)
        line = self.process.stdout.readline().decode()
        assert line.startswith("ready "), f"{self.log}: {line!r}"
        self.address = line.split("listen=")[1].split()[0]
        return self

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        status = self.process.wait(SECONDS)
        self.process.stdout.close()
        self.process = None
        return status

    def says(self, text):
        with open(self.log) as log:
            return text in log.read()


class Gateway(Server):
    def __init__(self, build, scratch, name, *options):
        super().__init__(scratch, name, f"{build}/loquat-gateway", "--listen", "127.0.0.1:0",
                         "--auth-secret-file", f"{scratch}/secret", *options)

    def ask(self, method, path, body=None, who="JOBS", accept=None):
        """(status, answer); the answer of a failure is its error."""
        headers = {"Authorization": "Bearer " + os.environ["LOQUAT_TOKEN_" + who]}
        if accept:
            headers["Accept"] = accept
        request = urllib.request.Request(
            f"http://{self.address}{path}", method=method, headers=headers,
            data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                text = answer.read().decode()
                return answer.status, text if accept else json.loads(text)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())["err"]

    def ok(self, method, path, body=None, who="JOBS"):
        status, answer = self.ask(method, path, body, who)
        assert status == 200, f"{method} {path}: {status} {answer}"
        return answer

    def open_group(self, name):
        return self.ok("POST", "/v1/conversations",
                       {"kind": "group", "name": name, "members": ["bob"], "cid": name}, "ALICE")["c"]

    def send(self, c, text, kind="text"):
        """Again until it is acknowledged, as clients do."""
        body = {"kind": kind, "body": {"text": text}, "cid": text}

        def sent():
            try:
                status, answer = self.ask("POST", f"/v1/conversations/{c}/messages", body, "ALICE")
            except OSError:
                return None
            return answer if status == 200 else None

        return wait_for("a message", sent)

    def metric(self, name):
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=SECONDS) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


class Target:
    """Where webhooks go: remembers what it took, and answers as `answer` says."""

    def __init__(self, tls=None):
        target = self
        self.requests, self.tried, self.lock = [], 0, threading.Lock()
        self.answer = lambda request: (200, {})
        self.secret = None

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with target.lock:
                    target.tried += 1
                    request = {"headers": dict(self.headers), "body": json.loads(body),
                               "raw": body, "path": self.path, "at": time.monotonic()}
                    status, headers = target.answer(request)
                    if 200 <= status <= 299:
                        target.requests.append(request)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(f"{tls}.pem", f"{tls}.key")
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"http{'s' if tls else ''}://localhost:{self.port}/hook?key=hidden"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def records(self):
        with self.lock:
            return [one["record"] for r in self.requests for one in r["body"]["records"]]

    def texts(self):
        return [r["body"]["text"] for r in self.records() if r.get("kind") == "text"]

    def signed(self, request, secret):
        h = {name.lower(): value for name, value in request["headers"].items()}
        key = base64.b64decode(secret.removeprefix("whsec_"))
        text = f"{h['webhook-id']}.{h['webhook-timestamp']}.".encode() + request["raw"]
        made = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
        return h["webhook-signature"] == "v1," + made and abs(
            time.time() - int(h["webhook-timestamp"])) < 300

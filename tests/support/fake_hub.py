"""A stand-in for the Hugging Face hub and for the servers that large files are sent from, on this machine.

    fake_hub.py FOLDER [--certificate FILE]

FOLDER/repositories/{models,datasets,spaces}/ORG/NAME/COMMIT/PATH are the files; FOLDER/repositories/…/refs/BRANCH
names a commit. Large files (by their extension) are redirected to the second server, others come from the first.
FOLDER/rules.json, which may change at any time, says what goes wrong: see `Rule`. Every request is a line of
FOLDER/requests.jsonl. Prints both ports when it listens.
"""
import gzip
import hashlib
import json
import re
import select
import socket
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

LARGE = {".safetensors", ".bin", ".pt", ".model"}
PAGE = 1000


class Rule:
    """What happens to requests whose "SERVER METHOD PATH" a pattern is found in.

    on          the pattern; SERVER is hub or cdn
    times       how many requests it holds for (default: all)
    status, headers, body   the whole answer
    set, unset  headers that are added to the ordinary answer, or taken from it
    drop_after  the connection ends after so many bytes of the content
    cut_to      only so many bytes are sent, and announced
    corrupt     the first byte is another
    no_range    a range is not understood: everything is sent
    gzip        the content is compressed
    rate        bytes a second
    endless     the content never ends
    tunnel      a CONNECT is answered with a connection to this port, whatever host it names
    wait        seconds before the answer
    """

    def __init__(self, fields):
        self.fields = fields
        self.pattern = re.compile(fields["on"])
        self.left = fields.get("times", 1 << 30)

    def get(self, name, default=None):
        return self.fields.get(name, default)


class State:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.lock = threading.Lock()
        self.text, self.rules = None, []
        self.cdn_port = 0
        self.log = open(self.folder / "requests.jsonl", "a", encoding="utf8")

    def rule_for(self, request):
        with self.lock:
            path = self.folder / "rules.json"
            text = path.read_text("utf8") if path.exists() else "[]"
            if text != self.text:
                self.text, self.rules = text, [Rule(fields) for fields in json.loads(text)]
            for rule in self.rules:
                if rule.left > 0 and rule.pattern.search(request):
                    rule.left -= 1
                    return rule
        return Rule({"on": "^$"})

    def record(self, line):
        with self.lock:
            self.log.write(json.dumps(line) + "\n")
            self.log.flush()


def etag_of(path, data):
    if path.suffix in LARGE:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # a client that has gone


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    name = "hub"
    state = None

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.serve()

    def do_GET(self):
        self.serve()

    def do_CONNECT(self):
        rule = self.state.rule_for(f"{self.name} CONNECT {self.path}")
        if not rule.get("tunnel"):
            return self.answer(rule, rule.get("status", 405), {}, b"")
        self.wfile.write(b"HTTP/1.1 200 ok\r\n\r\n")
        self.close_connection = True
        with socket.create_connection(("127.0.0.1", rule.get("tunnel"))) as other:
            ends = {self.connection: other, other: self.connection}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    data = end.recv(1 << 16)
                    if not data:
                        return None
                    ends[end].sendall(data)

    def serve(self):
        self.state.record({"server": self.name, "method": self.command, "path": self.path,
                           "headers": {key.lower(): value for key, value in self.headers.items()}})
        rule = self.state.rule_for(f"{self.name} {self.command} {self.path}")
        time.sleep(rule.get("wait", 0))
        try:
            if rule.get("status"):
                self.answer(rule, rule.get("status"), {}, rule.get("body", "").encode())
            elif self.name == "cdn":
                self.serve_data(rule)
            else:
                self.serve_hub(rule)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self, rule, status, headers, body):
        headers = {**headers, **rule.get("headers", {}), **rule.get("set", {})}
        if rule.get("corrupt") and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        if rule.get("gzip") and status == 200:
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        body = body[:rule.get("cut_to", len(body))]
        headers.setdefault("Content-Length", str(len(body)))
        unset = {name.lower() for name in rule.get("unset", [])}
        if rule.get("endless"):
            unset.add("content-length")
        if "content-length" in unset:
            self.close_connection = True
            headers["Connection"] = "close"
        self.send_response(status)
        for key, value in headers.items():
            if key.lower() not in unset:
                self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        while rule.get("endless"):
            self.wfile.write(b"x" * max(1, rule.get("rate", 1 << 20) // 20))
            self.wfile.flush()
            time.sleep(0.05 if rule.get("rate") else 0)
        if rule.get("drop_after") is not None:
            self.wfile.write(body[:rule.get("drop_after")])
            self.wfile.flush()
            self.close_connection = True
            return
        step = len(body) if not rule.get("rate") else max(1, rule.get("rate") // 20)
        for begin in range(0, len(body), max(step, 1)):
            self.wfile.write(body[begin:begin + step])
            if rule.get("rate"):
                self.wfile.flush()
                time.sleep(0.05)

    def refuse(self, rule, status, code, message, **headers):
        self.answer(rule, status, {"X-Error-Code": code, "X-Error-Message": message, "X-Request-Id": "Root=1-2",
                                   **headers}, b"")

    def send_file(self, rule, data, headers):
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        headers = {"Accept-Ranges": "bytes", **headers}
        if not wanted or rule.get("no_range") or self.command == "HEAD":
            return self.answer(rule, 200, headers, data)
        begin = int(wanted[1])
        if begin >= len(data):
            return self.answer(rule, 416, {**headers, "Content-Range": f"bytes */{len(data)}"}, b"")
        headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        return self.answer(rule, 206, headers, data[begin:])

    def serve_data(self, rule):
        if self.headers.get("Authorization"):
            return self.answer(rule, 400, {}, b"only one authorization is allowed")
        path = self.state.folder / "repositories" / unquote(urlsplit(self.path).path).lstrip("/")
        return self.send_file(rule, path.read_bytes(), {})

    def serve_hub(self, rule):
        address = urlsplit(self.path)
        parts = [unquote(part) for part in address.path.strip("/").split("/")]
        if parts[0] == "api":
            return self.serve_api(rule, parts[1:], parse_qs(address.query))
        kind = parts.pop(0) if parts[0] in ("datasets", "spaces") else "models"
        if "resolve" not in parts[1:3]:
            return self.refuse(rule, 404, "RepoNotFound", "Repository not found")
        at = parts.index("resolve", 1)
        root = self.state.folder / "repositories" / kind / "/".join(parts[:at])
        commit = self.commit_of(rule, root, parts[at + 1])
        if not commit:
            return None
        name = "/".join(parts[at + 2:])
        path = root / commit / name
        if not path.is_file():
            return self.refuse(rule, 404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": commit})
        data = path.read_bytes()
        tag = etag_of(path, data)
        if path.suffix not in LARGE:
            return self.send_file(rule, data, {"X-Repo-Commit": commit, "ETag": f'"{tag}"'})
        place = quote(f"/{kind}/{'/'.join(parts[:at])}/{commit}/{name}")
        return self.answer(rule, 302, {
            "X-Repo-Commit": commit, "X-Linked-Etag": f'"{tag}"', "X-Linked-Size": str(len(data)), "ETag": '"x"',
            "Location": f"http://127.0.0.1:{self.state.cdn_port}{place}?signature=secret"}, b"")

    def commit_of(self, rule, root, revision):
        if not root.is_dir():
            return self.refuse(rule, 401, "RepoNotFound", "Invalid username or password.")
        reference = root / "refs" / revision
        commit = reference.read_text() if reference.is_file() else revision
        if (root / commit).is_dir() and re.fullmatch("[0-9a-f]{40}", commit):
            return commit
        return self.refuse(rule, 404, "RevisionNotFound", "Invalid rev id")

    def serve_api(self, rule, parts, query):
        service = next((word for word in ("tree", "revision") if word in parts[2:4]), None)
        at = parts.index(service, 2) if service else len(parts)
        root = self.state.folder / "repositories" / parts[0] / "/".join(parts[1:at])
        commit = self.commit_of(rule, root, parts[at + 1] if service else "main")
        if not commit:
            return None
        top = root / commit
        if service != "tree":
            siblings = [{"rfilename": str(path.relative_to(top))} for path in sorted(top.rglob("*")) if path.is_file()]
            body = {"id": "/".join(parts[1:at]), "modelId": "/".join(parts[1:at]), "sha": commit, "private": False,
                    "gated": False, "siblings": siblings, "tags": [], "downloads": 0, "likes": 0}
            return self.answer(rule, 200, {"Content-Type": "application/json"}, json.dumps(body).encode())
        below = "/".join(parts[at + 2:])
        if below and not (top / below).is_dir():
            return self.refuse(rule, 404, "EntryNotFound", "Entry not found")
        recursive = query.get("recursive", ["false"])[0].lower() == "true"
        entries = []
        for path in sorted((top / below).rglob("*") if recursive else (top / below).iterdir()):
            name = str(path.relative_to(top))
            if path.is_dir():
                entries.append({"type": "directory", "path": name, "oid": "0" * 40, "size": 0})
                continue
            data = path.read_bytes()
            entry = {"type": "file", "path": name, "size": len(data),
                     "oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
            if path.suffix in LARGE:
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            entries.append(entry)
        begin = int(query.get("cursor", ["0"])[0])
        headers = {"Content-Type": "application/json"}
        if begin + PAGE < len(entries):
            scheme = "https" if isinstance(self.connection, ssl.SSLSocket) else "http"
            next_page = re.sub(r"&cursor=\d+", "", self.path) + f"&cursor={begin + PAGE}"
            headers["Link"] = f'<{scheme}://{self.headers["Host"]}{next_page}>; rel="next"'
        return self.answer(rule, 200, headers, json.dumps(entries[begin:begin + PAGE]).encode())


def main():
    state = State(sys.argv[1])
    servers = []
    for name in ("hub", "cdn"):
        handler = type(name, (Handler,), {"name": name, "state": state})
        servers.append(Server(("127.0.0.1", 0), handler))
    state.cdn_port = servers[1].server_port
    if "--certificate" in sys.argv:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[sys.argv.index("--certificate") + 1])
        servers[0].socket = context.wrap_socket(servers[0].socket, server_side=True)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(servers[0].server_port, servers[1].server_port, flush=True)
    sys.stdin.read()  # ends with whoever started it


if __name__ == "__main__":
    main()

"""A stand-in for the hub on loopback: repositories, revisions, redirects to where large files lie, ranges."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "c" * 40
OTHER_COMMIT = "d" * 40


class Hub:
    """What the server holds and what it does.

    Attributes:
        files: (repository, commit, file) -> content; all large files.
        small: names of files that are served directly, as the hub does with small ones.
        revisions: name of a revision -> commit.
        cut: how many downloads are still to be cut off after half of what is asked for.
        answers: whether it still sends anything when a large file is asked for.
        corrupt: flip a bit of every large file sent.
        requests: "METHOD path" of all requests so far.
    """

    def __init__(self) -> None:
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.small: set[str] = set()
        self.revisions = {"main": COMMIT, "v2": OTHER_COMMIT}
        self.cut = 0
        self.answers = True
        self.corrupt = False
        self.requests: list[str] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, repository: str, file: str, content: bytes, commit: str = COMMIT) -> None:
        self.files[repository, commit, file] = content

    def blob(self, digest: str) -> bytes:
        return next(content for content in self.files.values() if hashlib.sha256(content).hexdigest() == digest)


@contextlib.contextmanager
def serve(hub: Hub) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            path = unquote(self.path)
            if path.startswith("/blobs/"):
                return self.send_blob(path.removeprefix("/blobs/"))
            match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            if match is None:  # the library also asks for other things
                return self.reply(404, {})
            repository, revision, file = match.groups()
            if not any(key[0] == repository for key in hub.files):
                return self.reply(404, {"X-Error-Code": "RepoNotFound"})
            commit = hub.revisions.get(revision, revision)
            if commit not in hub.revisions.values():
                return self.reply(404, {"X-Error-Code": "RevisionNotFound"})
            known = {"X-Repo-Commit": commit}
            content = hub.files.get((repository, commit, file))
            if content is None:
                return self.reply(404, {**known, "X-Error-Code": "EntryNotFound"})
            if file in hub.small:
                return self.reply(200, {**known, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}, content)
            digest = hashlib.sha256(content).hexdigest()
            # large files lie on another host, whose name differs
            known |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
            return self.reply(302, {**known, "Location": f"http://localhost:{hub.port}/blobs/{digest}"})

        def send_blob(self, digest: str) -> None:
            if not hub.answers:
                self.close_connection = True
                return
            content = hub.blob(digest)
            if hub.corrupt:
                content = content[:-1] + bytes([content[-1] ^ 1])
            first = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
            headers = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if first else {}
            self.reply(206 if first else 200, headers, content[first:])

        def reply(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if body and hub.cut:
                hub.cut -= 1
                body, self.close_connection = body[: len(body) // 2], True
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", hub.port), Handler)
    server.daemon_threads = True
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()

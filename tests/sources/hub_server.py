"""A few endpoints of the Hugging Face Hub on 127.0.0.1: as much as `datasets.load_dataset` asks for one public dataset.

Any other dataset does not exist. Serves the files of one folder, from one commit.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlparse

COMMIT = "c0ffee" * 6 + "c0de"


@contextmanager
def serving(repo: str, root: Path) -> Iterator[str]:
    """The server's address, while the block lasts."""
    handler = type("Handler", (_Handler,), {"repo": repo, "root": root})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    repo: str
    root: Path

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        api, files = f"/api/datasets/{self.repo}", f"/datasets/{self.repo}/resolve/"
        if path.startswith(files):
            self._file(path.removeprefix(files).partition("/")[2])
        elif path == api or path.startswith(f"{api}/revision/"):
            self._json(self._info())
        elif path.startswith(f"{api}/tree/"):
            self._json(self._tree(path.removeprefix(f"{api}/tree/").partition("/")[2]))
        elif path.startswith(f"{api}/paths-info/"):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            wanted = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode()).get("paths", [])
            self._json([self._entry(self.root / name) for name in wanted if (self.root / name).exists()])
        else:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_POST = do_GET

    def _file(self, name: str) -> None:
        path = self.root / name
        if not path.is_file():
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        data = path.read_bytes()
        found = self.headers.get("Range", "")
        if found.startswith("bytes="):
            first, _, last = found[6:].partition("-")
            data = data[int(first) : int(last or len(data) - 1) + 1]
        self._answer(206 if found else 200, data, {"ETag": f'"{_digest(path)}"', "X-Repo-Commit": COMMIT})

    def _info(self) -> dict[str, object]:
        files = (path for path in self.root.rglob("*") if path.is_file())
        siblings = [{"rfilename": path.relative_to(self.root).as_posix()} for path in sorted(files)]
        facts = {"private": False, "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0}
        return {"id": self.repo, "sha": COMMIT, "siblings": siblings, **facts}

    def _tree(self, under: str) -> list[dict[str, object]]:
        return [self._entry(path) for path in sorted((self.root / under).iterdir())]

    def _entry(self, path: Path) -> dict[str, object]:
        name = path.relative_to(self.root).as_posix()
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": _digest(path), "size": 0}
        return {"type": "file", "path": name, "oid": _digest(path), "size": path.stat().st_size}

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json", "X-Repo-Commit": COMMIT})

    def _answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _digest(path: Path) -> str:
    return hashlib.sha1(str(path).encode()).hexdigest()

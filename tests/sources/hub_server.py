"""A few endpoints of the Hugging Face Hub on 127.0.0.1: as much as `datasets` and `HfFileSystem` ask for one dataset.

Any other dataset does not exist. Serves the files of one folder, from one commit, and those of other branches, each from one
commit of its own. With a token, the dataset exists for those alone who send it.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlparse

COMMIT = "c0ffee" * 6 + "c0de"


@contextmanager
def serving(repo: str, root: Path, branches: Mapping[str, Path] | None = None, token: str = "") -> Iterator[str]:
    """The server's address, while the block lasts."""
    of = {"repo": repo, "main": root, "branches": branches or {}, "token": token}
    handler = type("Handler", (_Handler,), of)
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
    disable_nagle_algorithm = True  # it would hold back each answer's body for 40 ms
    repo: str
    main: Path
    branches: Mapping[str, Path]
    token: str
    root: Path  # what this request is about
    commit: str

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path, query = urlparse(self.path).path, parse_qs(urlparse(self.path).query)
        api, files = f"/api/datasets/{self.repo}", f"/datasets/{self.repo}/resolve/"
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.token and self.headers.get("Authorization") != f"Bearer {self.token}":
            self._answer(401, b"", {"X-Error-Code": "RepoNotFound"})
        elif path.startswith(files):
            self._file(self._at(path.removeprefix(files)))
        elif path == api or path.startswith(f"{api}/revision/"):
            self._at(path.removeprefix(api).removeprefix("/revision/"))
            self._json(self._info())
        elif path.startswith(f"{api}/tree/"):
            under = self._at(path.removeprefix(f"{api}/tree/"))
            if (self.root / under).is_dir():
                self._json(self._tree(under, query.get("recursive") == ["true"]))
            else:
                self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif path.startswith(f"{api}/paths-info/"):
            self._at(path.removeprefix(f"{api}/paths-info/"))
            wanted = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode()).get("paths", [])
            self._json([self._entry(self.root / name) for name in wanted if (self.root / name).exists()])
        else:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_POST = do_GET

    def _at(self, path: str) -> str:
        """Finds the branch that REVISION/PATH is on; the path in it."""
        revision, _, name = path.partition("/")
        self.root, self.commit = self.main, COMMIT
        for branch, root in self.branches.items():
            commit = hashlib.sha1(branch.encode()).hexdigest()
            if unquote(revision) in (branch, commit):
                self.root, self.commit = root, commit
        return unquote(name)

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
        self._answer(206 if found else 200, data, {"ETag": f'"{_digest(path)}"', "X-Repo-Commit": self.commit})

    def _info(self) -> dict[str, object]:
        files = (path for path in self.root.rglob("*") if path.is_file())
        siblings = [{"rfilename": path.relative_to(self.root).as_posix()} for path in sorted(files)]
        facts = {"private": False, "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0}
        return {"id": self.repo, "sha": self.commit, "siblings": siblings, **facts}

    def _tree(self, under: str, deep: bool) -> list[dict[str, object]]:
        folder = self.root / under
        return [self._entry(path) for path in sorted(folder.rglob("*") if deep else folder.iterdir())]

    def _entry(self, path: Path) -> dict[str, object]:
        name = path.relative_to(self.root).as_posix()
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": _digest(path), "size": 0}
        return {"type": "file", "path": name, "oid": _digest(path), "size": path.stat().st_size}

    def _json(self, value: object) -> None:
        self._answer(
            200, json.dumps(value).encode(), {"Content-Type": "application/json", "X-Repo-Commit": self.commit}
        )

    def _answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _digest(path: Path) -> str:
    return hashlib.sha1(str(path).encode()).hexdigest()

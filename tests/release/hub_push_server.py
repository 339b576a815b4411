"""A Hugging Face Hub on 127.0.0.1, in memory: what `huggingface_hub` asks to make, fill, list and read dataset repositories.

Objects are stored as Git and LFS name them, commits are kept, and every request is recorded. `faults` are spent one by one
on the requests that they match. TOKEN alone may do anything; without it repositories that are private do not exist.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlparse

from hub_state import LFS_SUFFIXES, TOKEN, Hub, Repo, git_id


@contextmanager
def running() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer leaves in one piece: in two, each would wait for the other side's word
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _any(self) -> None:
        url = urlparse(self.path)
        path, self.query = unquote(url.path), parse_qs(url.query)
        fault = self.hub.fault(f"{self.command} {path}")
        if fault and fault.kind == "drop":
            self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
            self.close_connection = True
            return
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.asked.append((self.command, path, self.body))
        if fault and fault.kind == "status":
            self._answer(fault.status, b"out of order", fault.headers)
            return
        self.lost = bool(fault)
        self._route(path)

    do_GET = do_HEAD = do_POST = do_PUT = _any

    def _route(self, path: str) -> None:
        may = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if path == "/api/whoami-v2":
            facts = {"type": "user", "name": "owner", "auth": {"accessToken": {"role": self.hub.role}}}
            return self._json(facts) if may else self._answer(401, b"{}")
        if path == "/api/repos/create" and may:
            return self._create()
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path.startswith("/lfs/"):
            whole = hashlib.sha256(self.body).hexdigest() == path[5:]
            self.hub.objects |= {path[5:]: self.body} if whole else {}
            return self._answer(200 if whole else 400, b"")
        for pattern, act in _ROUTES:
            found = re.fullmatch(pattern, f"{self.command} {path}")
            repo = self.hub.repos.get(found["repo"]) if found else None
            if found and repo and (may or (not repo.private and not repo.gated and self.command != "PUT")):
                return act(self, repo, found)
        return self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization'] or 'owner'}/{asked['name']}"
        if asked["type"] != "dataset" or not name.startswith("owner/"):
            return self._answer(403, b"{}")
        known = name in self.hub.repos
        if not known:
            self.hub.made(name, private=asked.get("visibility") == "private")
        return self._json({"url": f"{self.hub.address}/datasets/{name}"}, 409 if known else 200)

    def _settings(self, repo: Repo, found: re.Match[str]) -> None:
        asked = json.loads(self.body)
        repo.gated = asked.get("gated", repo.gated)
        repo.private = asked["visibility"] == "private" if "visibility" in asked else repo.private
        self._json({})

    def _info(self, repo: Repo, found: re.Match[str]) -> None:
        siblings = [{"rfilename": path} for path in sorted(repo.files)]
        facts = {
            "private": repo.private,
            "gated": repo.gated,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
        }
        self._json({"id": found["repo"], "sha": repo.commits[-1][0], "siblings": siblings, **facts})

    def _tree(self, repo: Repo, found: re.Match[str]) -> None:
        files, under = repo.at(found["rev"]), (found["rest"] or "").strip("/")
        inside = [path for path in sorted(files) if not under or path.startswith(f"{under}/")]
        deep = self.query.get("recursive", [""])[0].lower() == "true"
        names = (
            inside if deep else sorted({"/".join(p.split("/")[: under.count("/") + 1 + bool(under)]) for p in inside})
        )
        start = int(self.query.get("cursor", ["0"])[0])
        entries = [self._entry(files, name) for name in names[start : start + self.hub.page]]
        more = start + self.hub.page
        link = f'<{self.hub.address}{self.path.split("?")[0]}?recursive={deep}&cursor={more}>; rel="next"'
        self._json(entries, headers={"Link": link} if more < len(names) else {})

    def _entry(self, files: dict[str, bytes], path: str) -> dict[str, object]:
        if path not in files:
            return {"type": "directory", "path": path, "oid": git_id(path.encode()), "size": 0}
        data = files[path] + (b"!" if path in self.hub.corrupt else b"")
        found = {"type": "file", "path": path, "oid": git_id(data), "size": len(files[path])}
        pointer = {"oid": hashlib.sha256(data).hexdigest(), "size": len(files[path]), "pointerSize": 130}
        return found | ({"lfs": pointer} if path.endswith(LFS_SUFFIXES) else {})

    def _paths(self, repo: Repo, found: re.Match[str]) -> None:
        wanted, files = parse_qs(self.body.decode()).get("paths", []), repo.at(found["rev"])
        known = [name for name in wanted if name in files or any(path.startswith(f"{name}/") for path in files)]
        self._json([self._entry(files, name) for name in known])

    def _commits(self, repo: Repo, found: re.Match[str]) -> None:
        facts = {"authors": [], "date": "2026-01-31T12:00:00.000Z", "title": "", "message": ""}
        self._json([{"id": oid, **facts} for oid, _ in reversed(repo.commits)])

    def _refs(self, repo: Repo, found: re.Match[str]) -> None:
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.commits[-1][0]}
        self._json({"branches": [main], "converts": [], "tags": []})

    def _preupload(self, repo: Repo, found: re.Match[str]) -> None:
        def mode(path: str) -> dict[str, object]:
            known = git_id(repo.files[path]) if path in repo.files else None
            lfs = path.endswith(LFS_SUFFIXES)
            return {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, "oid": known}

        self._json({"files": [mode(file["path"]) for file in json.loads(self.body)["files"]]})

    def _batch(self, repo: Repo, found: re.Match[str]) -> None:
        objects = json.loads(self.body)["objects"]
        for item in objects:
            if item["oid"] not in self.hub.objects:
                item["actions"] = {"upload": {"href": f"{self.hub.address}/lfs/{item['oid']}"}}
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, repo: Repo, found: re.Match[str]) -> None:
        files = dict(repo.files)
        for line in self.body.splitlines():
            key, value = (item := json.loads(line))["key"], item["value"]
            if key == "header" and value.get("parentCommit", repo.commits[-1][0]) != repo.commits[-1][0]:
                return self._answer(412, b"the head has moved")
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        oid = repo.commit(files)
        return self._json({"commitUrl": f"{self.hub.address}/datasets/{found['repo']}/commit/{oid}", "commitOid": oid})

    def _resolve(self, repo: Repo, found: re.Match[str]) -> None:
        path, files = found["rest"].strip("/"), repo.at(found["rev"])
        if path not in files:
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        first, _, last = self.headers.get("Range", "")[6:].partition("-")
        data = files[path][int(first or 0) : int(last or len(files[path])) + 1]
        headers = {"ETag": f'"{git_id(files[path])}"', "X-Repo-Commit": repo.commits[-1][0]}
        return self._answer(206 if first else 200, data, headers)

    def _json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        if getattr(self, "lost", False):
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else data)


_API = r"/api/datasets/(?P<repo>[^/]+/[^/]+)"
_ROUTES = [
    (rf"PUT {_API}/settings", _Handler._settings),
    (rf"GET {_API}(/revision/.+)?", _Handler._info),
    (rf"GET {_API}/tree/(?P<rev>[^/]+)(?P<rest>/.*)?", _Handler._tree),
    (rf"POST {_API}/paths-info/(?P<rev>[^/]+)", _Handler._paths),
    (rf"GET {_API}/commits/.+", _Handler._commits),
    (rf"GET {_API}/refs", _Handler._refs),
    (rf"POST {_API}/preupload/.+", _Handler._preupload),
    (r"POST /datasets/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", _Handler._batch),
    (rf"POST {_API}/commit/.+", _Handler._commit),
    (r"(GET|HEAD) /datasets/(?P<repo>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)(?P<rest>/.+)", _Handler._resolve),
]

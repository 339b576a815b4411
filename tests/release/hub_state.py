"""What a Hub in memory holds: repositories with their commits, stored objects, faults to come, and every request."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

TOKEN = "hf_onlyforthetestsofthisproject"
LFS_SUFFIXES = (".png", ".jpg", ".webp", ".parquet")  # what the Hub does not keep in Git itself


@dataclass
class Fault:
    """What happens instead, `times` times, to a request whose "METHOD /path" matches `pattern`.

    kind: "status"; "drop" (the connection ends in the middle of the body); "lost" (done, but the answer never comes).
    """

    pattern: str
    kind: str = "status"
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1


@dataclass
class Repo:
    private: bool = True
    gated: object = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)  # oldest first: id, path -> content

    def commit(self, files: dict[str, bytes]) -> str:
        oid = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits.append((oid, files))
        return oid

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1][1]

    def at(self, revision: str) -> dict[str, bytes]:
        return dict(self.commits).get(revision, self.files)


@dataclass
class Hub:
    """Its state; tests read and change it as they like. `corrupt` are paths that are listed with a wrong hash."""

    address: str = ""
    role: str = "write"
    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    corrupt: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)  # method, path, body
    page: int = 1000

    def made(self, name: str, files: dict[str, bytes] | None = None, **facts: Any) -> Repo:
        self.repos[name] = repo = Repo(**facts)
        repo.commit({".gitattributes": b"*.png filter=lfs\n"} | (files or {}))
        return repo

    def asked_for(self, pattern: str) -> list[tuple[str, str, bytes]]:
        return [one for one in self.asked if re.search(pattern, f"{one[0]} {one[1]}")]

    def fault(self, request: str) -> Fault | None:
        found = next((one for one in self.faults if one.times and re.search(one.pattern, request)), None)
        if found:
            found.times -= 1
        return found


def git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

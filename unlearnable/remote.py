"""Remote storage: the one place that turns an address into a file system of fsspec, and its failures into a sentence.

An address is PROTOCOL://PATH: s3://bucket/prefix, gs://, hf://datasets/OWNER/NAME/folder, memory://x, whatever fsspec has a
package for. Credentials and settings are the storage's own (its environment variables and files, or fsspec's, such as
FSSPEC_S3='{"anon": true}'); an address with a password in it is refused, and no message shows one. Requests are repeated
by the storage's package, and by nothing here.

A `Place` is an address and nothing else: it can be sent to another process, and each process makes its own file system,
because connections and event loops outlive neither a fork nor a pickle. Threads may share it.

Raises Gone where there is nothing, Refused where it may not be had, HubError (exit code 6) for credentials and the network.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from unlearnable.errors import HubError, UnlearnableError, UsageError

Stamp = tuple[int, int]  # bytes, and a number that changes when they do

_ADDRESS = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]*)://(?P<path>.*)", re.DOTALL)
_PASSWORD = re.compile(r"://[^/@]*:[^/@]*@|[?&][\w-]*(?:sig|signature|token|key|credential)[\w-]*=", re.IGNORECASE)
_HERE = ("file", "local")
_PAGES = ("http", "https")
BUCKETS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "oss")
_COMMIT = re.compile(r"@[0-9a-f]{40}(?:/|$)")
_VERSIONS = ("ETag", "etag", "xet_hash", "blob_id", "generation", "mtime", "LastModified", "modified", "created")
_WAYS = {
    "s3": "Set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a public bucket FSSPEC_S3='{\"anon\": true}'.",
    "gs": "Run: gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS.",
    "hf": "Set HF_TOKEN, or run: hf auth login",
}
# of botocore, google.auth and the services' own codes: what is wrong with who asks, and not with what is asked for
_NOBODY = re.compile(
    r"NoCredentials|Credential\w*Error|Token\w*Error|RefreshError|TokenRefresh|ExpiredToken|InvalidToken|Anonymous caller"
    r"|InvalidAccessKeyId|SignatureDoesNotMatch"
)

_opened: dict[tuple[int, str], Any] = {}


class Gone(UsageError):
    """There is nothing of that address."""


class Refused(HubError):
    """There is something, and whoever asks may not have it."""


@dataclass(frozen=True)
class Entry:
    """What lies directly in a folder. name: its last part; stamp: see `Place.stamp`."""

    name: str
    folder: bool
    size: int
    stamp: Stamp


@dataclass(frozen=True)
class Place:
    """A file or folder by its address, without a slash at the end."""

    url: str

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.url}/{name}") if name else self

    def __str__(self) -> str:
        return self.url

    @property
    def protocol(self) -> str:
        return self.url.partition("://")[0]

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def fixed(self) -> bool:
        """Whether it lies in one commit of the Hub, and so cannot change."""
        return self.protocol == "hf" and bool(_COMMIT.search(self.url))

    def entries(self) -> list[Entry]:
        """What lies in the folder, by name. A name may be empty: an address can have two slashes in a row."""
        files, path = self._at()
        with self._failures():
            found = [_entry(info, path) for info in files.ls(path, detail=True)]
        # an empty object whose name ends in a slash stands for the folder itself
        return sorted((e for e in found if e.name or e.folder or e.size), key=lambda entry: (entry.name, entry.folder))

    def look(self) -> Entry:
        """What it is, now."""
        files, path = self._at()
        with self._failures():
            return _entry(files.info(path), path.rpartition("/")[0])

    def read(self, start: int | None = None, end: int | None = None, *, size: int | None = None) -> bytes:
        """All bytes, or those from start to before end, in one request where the storage can. size: of all, if known."""
        files, path = self._at()
        how: dict[str, Any] = {}
        if self.protocol == "hf":  # it would list the whole folder for the size, and read megabytes ahead
            how = {"block_size": 0} if end is None else {"cache_type": "none", "size": size}
        with self._failures():
            return bytes(files.cat_file(path, start=start, end=end, **how))

    def files(self) -> dict[str, int]:
        """Every file below, however deep: sorted path from here -> bytes. Empty where there is nothing."""
        files, path = self._at()
        with self._failures():
            found = files.find(path, detail=True)
        inside = path.rstrip("/") + "/"
        return dict(sorted((str(name).removeprefix(inside), int(info["size"] or 0)) for name, info in found.items()))

    def write(self, data: bytes) -> None:
        """Puts a small file there, whole or not at all."""
        files, path = self._at()
        with self._failures("written"):
            files.pipe_file(path, data)

    def put(self, file: Path) -> None:
        """Puts a copy of a file of this machine there. Raises HubError when what arrives is not as long."""
        files, path = self._at()
        with self._failures("written"):
            self._make_folder(files, path)
            files.put_file(str(file), path)
            arrived = int(files.info(path)["size"])
        if arrived != file.stat().st_size:
            raise HubError(
                f"{self.url} arrived with {arrived:,} bytes, not {file.stat().st_size:,}.", "Repeat the command."
            )

    def fetch(self, file: Path) -> None:
        """Copies it to a file of this machine."""
        files, path = self._at()
        with self._failures():
            files.get_file(path, str(file))

    def copy(self, to: Place) -> None:
        """Copies it inside the storage, without a way through this machine where the storage can."""
        files, path = self._at()
        there = to._at()[1]
        with self._failures("written"):
            self._make_folder(files, there)
            files.cp_file(path, there)

    def remove(self) -> None:
        """Removes the file, if it is there."""
        files, path = self._at()
        with self._failures("written"), suppress(FileNotFoundError):
            files.rm_file(path)

    def _make_folder(self, files: Any, path: str) -> None:
        if self.protocol not in BUCKETS:  # there are no folders in one, and a misspelled one would be made
            files.makedirs(path.rpartition("/")[0], exist_ok=True)

    def _pinned(self) -> Place:
        self.look()  # so that what is not there is told by the name that the owner knows
        files, path = self._at()
        with self._failures():
            at = files.resolve_path(path)
            if getattr(at, "repo_id", None) is None:  # a bucket, which has no commits
                return self
            hub = importlib.import_module("huggingface_hub").HfApi(endpoint=files.endpoint)
            commit = hub.repo_info(at.repo_id, revision=at.revision, repo_type=at.repo_type).sha
        root = path.removesuffix(at.path_in_repo).rstrip("/").partition("@")[0]
        return Place(f"hf://{root}@{commit}") / str(at.path_in_repo)

    def _at(self) -> tuple[Any, str]:
        """The file system of this process, and the path in it."""
        key = (os.getpid(), self.protocol)
        files = _opened.get(key) or _opened.setdefault(key, _file_system(self.protocol))
        return files, str(files._strip_protocol(self.url))

    @contextmanager
    def _failures(self, doing: str = "read") -> Iterator[None]:
        try:
            yield
        except UnlearnableError:
            raise
        except Exception as why:  # every storage has its own kinds
            if type(why).__module__ == "builtins" and not isinstance(why, OSError | ValueError | RuntimeError):
                raise  # a fault of ours
            raise explained(why, self.url, doing) from None  # the chain could print an address with a token in it


def is_address(spec: str) -> bool:
    """By spelling only."""
    return bool(_ADDRESS.fullmatch(spec))


def locate(spec: str) -> Place:
    """The place of an address; of a repository on the Hub at its present commit, so that it cannot change meanwhile.

    Raises UsageError when it is no address of a storage that can be read here.
    """
    found = _ADDRESS.fullmatch(spec)
    if found is None:
        raise UsageError(f"{spec} is no address of a storage.", "Write it like s3://bucket/folder.")
    if _PASSWORD.search(spec):
        raise UsageError(
            f"The address {found['protocol']}://... holds a password or a key, which would be written into reports.",
            "Give it to the storage by its environment variables instead.",
        )
    if found["protocol"] in _HERE:
        raise UsageError(f"{spec} lies on this machine.", "Give its path, without the protocol.")
    if found["protocol"] in _PAGES:
        raise UsageError(f"{spec} is a web page or a download, which has no folders.", "Download it and give its path.")
    place = Place(spec.rstrip("/"))
    if not found["path"].strip("/"):
        raise UsageError(
            f"{spec} names no bucket and no folder.", f"Write it like {found['protocol']}://bucket/folder."
        )
    return place._pinned() if place.protocol == "hf" and not place.fixed else place


def number(data: bytes) -> int:
    """The second half of a stamp, of a storage that names versions by the MD5 of their bytes, as S3 mostly does."""
    return _number(hashlib.md5(data, usedforsecurity=False).hexdigest())


def explained(why: Exception, url: str, doing: str = "read") -> UnlearnableError:
    """One sentence and a way out for what a storage's package raised; without secrets."""
    protocol = url.partition("://")[0]
    said = without_secrets((str(why).strip() or type(why).__name__).partition("\n")[0])
    told = " ".join(f"{type(part).__name__} {part}" for part in _causes(why))
    if isinstance(why, FileNotFoundError):
        return Gone(f"There is nothing at {url}, or nothing that you may see.", "Check bucket, folder and spelling.")
    if _NOBODY.search(told):
        return HubError(f"{url} asks who you are ({said}).", _WAYS.get(protocol, "Set the storage's credentials."))
    if isinstance(why, PermissionError):
        return Refused(f"{url} may not be {doing} ({said}).", f"Ask its owner. {_WAYS.get(protocol, '')}".strip())
    return HubError(
        f"{url} could not be {doing} ({said}).", "Check the address and the network, and repeat the command."
    )


def without_secrets(text: str) -> str:
    """No access token, no key and no password in an address may reach the screen or a log."""
    text = re.sub(r"hf_\w{8,}", "hf_***", re.sub(r"://[^/\s@]+@", "://", text))
    return re.sub(
        r"\?[^\s\"']*(?:[Ss]ig|[Tt]oken|[Kk]ey)[^\s\"']*", "?***", re.sub(r"\bA[KS]IA[A-Z0-9]{8,}", "***", text)
    )


def _file_system(protocol: str) -> Any:
    """A new one, which keeps no listings: what changes must be seen."""
    fsspec = importlib.import_module("fsspec")
    try:
        kind = fsspec.get_filesystem_class(protocol)
    except ImportError as why:
        known = importlib.import_module("fsspec.registry").known_implementations.get(protocol, {}).get("class", "")
        package = known.partition(".")[0]
        way = f"Run: pip install {package}" if package not in ("", "fsspec") else str(why)
        raise UsageError(f"Reading {protocol}:// needs a package that is not installed.", way) from why
    except ValueError as why:
        raise UsageError(
            f"{protocol}:// is no storage that is known here.", "Known are s3, gs, hf and others."
        ) from why
    settings = {} if protocol == "hf" else {"use_listings_cache": False}
    return kind(skip_instance_cache=True, **settings)


def _entry(info: dict[str, Any], folder: str) -> Entry:
    path, inside = str(info["name"]), folder.rstrip("/") + "/"
    name = path.removeprefix(inside) if path.startswith(inside) else path.rpartition("/")[2]
    size = int(info.get("size") or 0)
    version = next((info[key] for key in _VERSIONS if info.get(key)), "")
    if isinstance(version, datetime):
        version = version.timestamp()
    return Entry(name, info["type"] == "directory", size, (size, _number(str(version).strip('"'))))


def _number(version: str) -> int:
    return int.from_bytes(hashlib.sha256(version.encode()).digest()[:6])


def _causes(why: BaseException | None) -> Iterator[BaseException]:
    while why is not None:
        yield why
        why = why.__cause__ or why.__context__

"""A release that lies on remote storage: staged beside its place, shard by shard, and moved there when it is sealed.

    s3://bucket/.NAME.partial/data/...     finished shards
    s3://bucket/.NAME.partial/marks/...    their done-marks, encrypted: they hold what only the owner may know
    s3://bucket/NAME/...                   the release; the signature arrives last

On the machine that works lies one shard at a time, and the owner folder, which is never uploaded. A shard is done when its
mark has arrived, so any machine that has the owner folder's key can go on where another stopped. Storages of objects
cannot rename: every file is copied inside the storage and then removed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography.fernet import Fernet, InvalidToken

from release import layout, marks
from release.formats import inside
from release.tree import Tree
from unlearnable.errors import IntegrityError, UsageError
from unlearnable.keys import Key
from unlearnable.remote import Gone, Place, locate
from unlearnable.types import Tell

_MARKS = "marks"
_AT_ONCE = 16  # requests
_PIECE = 8 << 20  # bytes

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Depot:
    """Where a release is kept, and the archive's key, which its done-marks are encrypted under."""

    release: Place
    key: Key

    @property
    def staging(self) -> Place:
        parent, _, name = self.release.url.rpartition("/")
        return Place(f"{parent}/.{name}.partial")

    def keep(self, staging: Path, mark: Path) -> None:
        """Uploads a shard that was just written and then its mark; the shard's files here are removed."""
        for path in marks.files(mark):
            (self.staging / path).put(staging / path)
        (self.staging / _MARKS / mark.name).write(self._cipher().encrypt(mark.read_bytes()))
        for path in marks.files(mark):
            (staging / path).unlink()

    def recall(self, folder: Path) -> None:
        """Brings the marks that other machines, or an earlier run, left there into the owner folder."""
        wanted = [name for name in (self.staging / _MARKS).files() if not (folder / name).exists()]

        def bring(name: str) -> None:
            place = self.staging / _MARKS / name
            try:
                body = self._cipher().decrypt(place.read())
            except InvalidToken:
                hint = "Is it of a run with another owner folder? Then name another OUT, or remove what lies there."
                raise IntegrityError(f"{place} cannot be opened with the key of this archive.", hint) from None
            partial = (folder / name).with_suffix(".partial")
            partial.write_bytes(body)
            partial.replace(folder / name)

        _each(bring, wanted)

    def holds(self, mark: Path) -> bool:
        """Whether the files of a finished shard are there, in their full length."""
        try:
            return all((self.staging / path).look().size == size for path, size in marks.sizes(mark).items())
        except Gone:
            return False

    @contextmanager
    def lent(self, staging: Path, path: str, digest: str) -> Iterator[None]:
        """A staged file on this machine, as `staging`/`path`, for as long as the block lasts.

        Raises IntegrityError when it is not what was uploaded.
        """
        here = inside(staging, path)
        here.parent.mkdir(parents=True, exist_ok=True)
        try:
            (self.staging / path).fetch(here)
            if marks.digest(here) != digest:
                raise IntegrityError(
                    f"{self.staging / path} is not what was uploaded.", "Remove it, and repeat the run."
                )
            yield
        finally:
            here.unlink(missing_ok=True)

    def require_room(self) -> None:
        """Raises UsageError when a release, or anything else, lies where this one is to be."""
        if self.release.files():
            raise UsageError(f"{self.release} exists and is not empty.", "Name another place, or remove it first.")

    def publish(self, staging: Path, documents: Sequence[str], data: Iterable[str], tell: Tell) -> None:
        """Uploads the documents and moves everything to its place: the signature last, so that nothing half looks whole."""
        last = layout.ATTESTATION
        for name in documents:
            (self.staging / name).put(staging / name)
        everything = [*data, *(name for name in documents if name != last)]
        count = [0]

        def move(path: str) -> None:
            (self.staging / path).copy(self.release / path)
            count[0] += 1
            tell("moving the release to its place", count[0], len(everything))

        _each(move, everything)
        (self.staging / last).copy(self.release / last)
        _each(lambda path: (self.staging / path).remove(), list(self.staging.files()))

    def _cipher(self) -> Fernet:
        return Fernet(base64.urlsafe_b64encode(self.key.derived("done-marks on remote storage 1")))


class Uploaded(Tree):
    """A staging folder whose data lies in a depot. known: digest and size of every data file by its path."""

    def __init__(self, root: Path, depot: Depot, known: Mapping[str, tuple[str, int]]) -> None:
        super().__init__(root)
        self._depot, self._known = depot, known
        self._digests |= {path: digest for path, (digest, _) in known.items()}

    def walk(self, ignore: Sequence[str] = ()) -> dict[str, str]:
        return dict(sorted((super().walk(ignore) | dict.fromkeys(self._known, "file")).items()))

    def size(self, path: str) -> int:
        return self._known[path][1] if path in self._known else super().size(path)

    @contextmanager
    def here(self, path: str) -> Iterator[Path]:
        if path not in self._known:
            yield self.root / path
            return
        with self._depot.lent(self.root, path, self._known[path][0]):
            yield self.root / path


class Far(Tree):
    """A folder on remote storage, read file by file and never whole in memory."""

    def __init__(self, place: Place) -> None:
        super().__init__(Path())
        self.place, self._files = place, place.files()

    def __str__(self) -> str:
        return str(self.place)

    def walk(self, ignore: Sequence[str] = ()) -> dict[str, str]:
        left_out = tuple(f"{name}/" for name in ignore)
        return {path: "file" for path in self._files if path not in ignore and not path.startswith(left_out)}

    def read(self, path: str) -> bytes:
        return (self.place / path).read()

    def size(self, path: str) -> int:
        return self._files[path]

    def digests(self, paths: Sequence[str], *, durable: bool = False) -> Iterator[tuple[str, str | OSError]]:
        del durable
        yield from zip(paths, _each(self._digest, paths), strict=True)

    def _digest(self, path: str) -> str:
        digest, size = hashlib.sha256(), self._files[path]
        for start in range(0, size, _PIECE):
            digest.update((self.place / path).read(start, min(size, start + _PIECE), size=size))
        return digest.hexdigest()


def open_depot(address: str, key: Key) -> Depot:
    """Raises UsageError for an address that nothing can be put at."""
    if address.startswith("hf://"):
        hint = "Give a folder here, and then: unlearnable push FOLDER OWNER/NAME"
        raise UsageError(f"{address}: a release goes to the Hub by `push`, which checks it first.", hint)
    return Depot(locate(address), key)


def _each(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Results in the order of the items, some at once: requests wait more than they work."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(work, items))

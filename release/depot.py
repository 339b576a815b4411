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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography.fernet import Fernet, InvalidToken

from release import hashing, layout, marks
from release.formats import inside
from release.manifest import Manifest
from release.tree import Tree
from unlearnable.errors import HubError, IntegrityError, UsageError
from unlearnable.keys import Key
from unlearnable.remote import BUCKETS, Gone, Place, Refused, locate
from unlearnable.types import Tell

_MARKS = "marks"
_MOVING = "moving"  # beside them: what lies in the release's place was put there by the move that is under way
AT_ONCE = 16  # requests
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

    def keep(self, staging: Path, fresh: Path, name: str) -> None:
        """Uploads a shard that was just written and then its mark; the shard's files here are removed.

        fresh: the mark, which has not yet its `name` here. One that lies there vouches for other bytes, so it goes first.
        """
        files, mark = list(marks.files(fresh)), self.staging / _MARKS / name
        mark.remove()
        each(lambda path: (self.staging / path).put(staging / path), files)
        mark.write(self._cipher().encrypt(fresh.read_bytes()))
        for path in files:
            (staging / path).unlink()

    def recall(self, folder: Path, names: Collection[str]) -> None:
        """Makes the marks of these names in the owner folder those that other machines, or an earlier run, left there.

        A shard whose files do not all lie there in their full length has none.
        """
        before = [name for name in names if (folder / name).exists()]  # others may finish shards while we list
        there = self.staging.files()

        def bring(name: str) -> None:
            place = self.staging / _MARKS / name
            try:
                body = self._cipher().decrypt(place.read())
            except InvalidToken:
                hint = "Is it of a run with another owner folder? Then name another OUT, or remove what lies there."
                raise IntegrityError(f"{place} cannot be opened with the key of this archive.", hint) from None
            partial = (folder / name).with_suffix(".recalled")
            partial.write_bytes(body)
            partial.replace(folder / name)

        found = {name for name in names if f"{_MARKS}/{name}" in there}
        each(bring, sorted(found))
        for name in {*before, *found}:
            mark = folder / name
            if name not in found or any(there.get(path) != size for path, size in marks.sizes(mark).items()):
                mark.unlink(missing_ok=True)

    @contextmanager
    def lent(self, staging: Path, path: str, digest: str) -> Iterator[None]:
        """A staged file on this machine, as `staging`/`path`, for as long as the block lasts.

        Raises IntegrityError when it is not what was uploaded.
        """
        here = inside(staging, path)
        here.parent.mkdir(parents=True, exist_ok=True)
        try:
            (self.staging / path).fetch(here)
            if hashing.sha256(here) != digest:
                raise IntegrityError(
                    f"{self.staging / path} is not what was uploaded.", "Remove it, and repeat the run."
                )
            yield
        finally:
            here.unlink(missing_ok=True)

    def require_room(self) -> None:
        """Raises UsageError when anything lies where the release is to be, but for what a move of it began to put there; and
        when there is no such bucket."""
        try:
            taken = bool(self.release.entries())
        except Gone:
            taken = False
            if self.release.protocol in BUCKETS:
                with suppress(Refused):  # one may be let into a folder alone
                    Place("/".join(self.release.url.split("/")[:3])).look()
        if taken and not self._is_moving():
            raise UsageError(f"{self.release} exists and is not empty.", "Name another place, or remove it first.")

    def publish(self, staging: Path, documents: Sequence[str], data: Iterable[str], tell: Tell) -> None:
        """Uploads the documents and moves everything to its place: the signature last, so that nothing half looks whole.

        Stopped anywhere, it can be called again, also with other files. Raises UsageError for a stranger's file in that
        place, HubError when what arrived is not what was sent.
        """
        self.require_room()
        last = layout.ATTESTATION
        (self.release / last).remove()  # of a move that was stopped
        for name in documents:
            (self.staging / name).put(staging / name)
        (self.staging / _MOVING).write(b"1")
        everything = [*data, *(name for name in documents if name != last)]
        count = [0]

        def move(path: str) -> None:
            (self.staging / path).copy(self.release / path)
            count[0] += 1
            tell("moving the release to its place", count[0], len(everything))

        each(move, everything)
        self._require_arrived({*everything})
        (self.staging / last).copy(self.release / last)
        self.clear()

    def is_whole(self, created: str) -> bool:
        """Whether the release is in its place, whole: the one that was created then."""
        with suppress(Gone, IntegrityError):
            (self.release / layout.ATTESTATION).look()
            return self.manifest().created == created
        return False

    def manifest(self) -> Manifest:
        """Of the release in its place."""
        return Manifest.from_bytes((self.release / layout.MANIFEST).read())

    def clear(self) -> None:
        """Removes the staging of a release that is in its place; first what would let a part go on with it."""
        (self.staging / _MOVING).remove()
        each(lambda path: (self.staging / path).remove(), list(self.staging.files()))

    def _is_moving(self) -> bool:
        with suppress(Gone):
            return bool((self.staging / _MOVING).look())
        return False

    def _require_arrived(self, wanted: set[str]) -> None:
        """Removes what an earlier move of other files left there. Raises as `publish` does."""
        sent, arrived = self.staging.files(), self.release.files()
        for path in sorted(arrived.keys() - wanted):
            if path not in sent:
                hint = "Remove it, and repeat the command."
                raise UsageError(f"{self.release / path} is not part of the release that is moved there.", hint)
            (self.release / path).remove()
        for path in sorted(wanted):
            if arrived.get(path) != sent.get(path):
                raise HubError(f"{self.release / path} did not arrive as it was sent.", "Repeat the command.")

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
        yield from zip(paths, each(self._digest, paths), strict=True)

    def _digest(self, path: str) -> str:
        digest, size = hashlib.sha256(), self._files[path]
        for start in range(0, size, _PIECE):
            digest.update((self.place / path).read(start, min(size, start + _PIECE), size=size))
        return digest.hexdigest()


def place_of(address: str) -> Place:
    """Raises UsageError for an address that nothing can be put at; asks nobody."""
    if address.startswith("hf://"):
        hint = "Give a folder here, and then: unlearnable push FOLDER OWNER/NAME"
        raise UsageError(f"{address}: a release goes to the Hub by `push`, which checks it first.", hint)
    place = locate(address)
    path = place.url.partition("://")[2]
    if {"", ".", ".."} & {*path.split("/")}:
        raise UsageError(f"{address} has a part that is no folder's name.", "Write it like s3://bucket/folder.")
    if "/" not in path:
        raise UsageError(f"{address} is a whole bucket.", f"Name a folder in it, such as {place}/protected.")
    return place


def each(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Results in the order of the items, some at once: requests wait more than they work."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(work, items))

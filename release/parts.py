"""Parts of a release that several runs made: brought together, and whether any is missing.

Runs with --shard share the folders OUT.owner and .OUT.partial, or have copies of them on machines that share no disk. A
shard's files and its done-mark are the same wherever it was made, so bringing copies together is copying what is missing;
a shard that two copies hold must be the same in both.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from release import formats, hashing, layout, marks, records
from release.build import Work
from release.formats import inside
from unlearnable.errors import IntegrityError, UsageError, disk_error
from unlearnable.types import Tell


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keeps other merges of `out` away for as long as the block lasts. Raises UsageError when one is under way.

    Those of this machine, and of others where they share the owner folder and its file system has locks. Copies of the owner
    folder know nothing of each other.
    """
    records.unfinished(out)
    owner = layout.owner_folder(out)
    key = owner / layout.KEY  # never replaced, and shared disks lock only what can be written
    written = os.access(key, os.W_OK)
    descriptor = os.open(key if written else owner, os.O_RDWR if written else os.O_RDONLY)
    try:
        if _is_locked(descriptor):
            hint = "Wait for it. Should it fail, repeat this command."
            raise UsageError(f"{out} is being merged by another run.", hint)
        yield
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    """Locks a file, unless somebody else has it locked; where there are no locks, nobody has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as why:
        return isinstance(why, BlockingIOError)
    return False


def gather(out: Path, copies: Sequence[Path], tell: Tell) -> None:
    """Copies the finished shards of other copies of `out` to it; the copies stay as they are.

    A copy is named as `out` is: /mnt/node3/photos-protected stands for the two folders beside that name. Raises UsageError
    when one is of another job, IntegrityError when a shard's files are not what its mark says or two copies differ.
    """
    here = records.unfinished(out)
    for number, copy in enumerate(copies):
        tell("bringing copies together", number, len(copies))
        there = records.unfinished(copy)
        if any(here.get(name) != there.get(name) for name in ("asked", "salt")):
            raise UsageError(
                f"{copy} is no copy of {out}: its run was begun apart.", "Leave it out, or protect it again."
            )
        try:
            _gather(out, copy)
        except OSError as why:
            raise disk_error(why, out) from why


def _gather(out: Path, copy: Path) -> None:
    (ours, staging), (theirs, staged) = (
        (layout.owner_folder(root) / layout.UNFINISHED / layout.SHARDS, layout.staging_folder(root))
        for root in (out, copy)
    )
    ours.mkdir(parents=True, exist_ok=True, mode=0o700)
    for mark in sorted(theirs.glob("*.json")):
        files, mine = marks.files(mark), ours / mark.name
        known = marks.files(mine) if mine.exists() else None
        if known is not None and known != files:
            raise IntegrityError(
                f"{mark} and {mine} differ in what they say was written.",
                f"Remove the one that is wrong, and do its part again: shard {int(mark.stem)}.",
            )
        if known is not None and marks.lies(mine, staging):
            continue
        for path, digest in files.items():
            target = inside(staging, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(inside(staged, path), target)
            if hashing.sha256(target, durable=True) != digest:
                raise IntegrityError(f"{staged / path} is not what {mark} says.", "Do its part again there.")
        partial = mine.with_suffix(".partial")
        shutil.copyfile(mark, partial)
        partial.replace(mine)


def require_whole(work: Work) -> None:
    """Raises UsageError, with the way on, when a shard of a run is not done; IntegrityError when one has another fit."""
    shards = work.shards()
    if work.depot:
        work.marks.mkdir(parents=True, exist_ok=True, mode=0o700)
        work.depot.recall(work.marks, [work.mark(shard).name for shard in shards])
    missing = [shard.index for shard in shards if not work.is_done(shard)]
    if missing:
        some = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        lost = f"{len(missing)} of {len(shards)} shards are not done: {some}."
        hint = "Repeat the run of their part: --shard i/n does every shard whose number leaves i when divided by n."
        others = sum(
            marks.made_of(work.mark(shards[index])) not in (None, formats.stamp(work.source, shards[index]))
            for index in missing
        )
        if others:
            lost += f" {others} of them were made of originals with other times or sizes."
            hint = f"Copy originals with their times (rsync -a, cp -p), or for images that changed: {hint}"
        raise UsageError(lost, hint)

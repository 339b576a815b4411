"""`push`: a sealed release onto the Hugging Face Hub, private and gated, in one commit that is read back.

What can be refused is refused before a byte is sent. Data files go as they are; where the repository has a card already,
the two are merged and the documents that vouch for it signed anew, for the Hub alone: the release folder is only read.
Repeating the command goes on: what lies there with the right hash is not sent again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from release import card, layout
from release._hub import Blob, Look, Moved, Remote, same
from release.check import check
from release.manifest import UNLISTED, Manifest
from release.reseal import reseal
from unlearnable.errors import IntegrityError, UsageError, disk_error
from unlearnable.types import Tell, silent

GATES = ("auto", "manual", "off")

# Written anew by a later seal of the same data, so an older edition of them may be replaced.
_REPLACEABLE = (*UNLISTED, layout.CARD, layout.REPORT, layout.PUBLIC_KEY, layout.CROISSANT)
_MOST_COMMITS = 50  # of a history that is looked through
_MOST_FILES = 100_000  # the Hub's limits for a repository and for one folder of it
_MOST_IN_FOLDER = 10_000

_FRESH = (
    "Push to a fresh repository. Or delete what is not of the release, squash the history "
    "(huggingface_hub: HfApi().super_squash_history, repo_type='dataset'), delete tags and branches, and repeat."
)


@dataclass(frozen=True)
class _File:
    """A file as it shall lie on the Hub."""

    size: int
    sha256: str
    source: Path | bytes

    def read(self) -> bytes:
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    def is_at(self, blob: Blob | None) -> bool:
        return blob is not None and same(blob, self.size, self.sha256, self.read)


def push(
    release: str | Path,
    repo: str,
    *,
    public: bool = False,
    yes: bool = False,
    gated: str | None = None,
    allow_unproven: bool = False,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Puts a release into the dataset repository `repo` ("owner/name"); returns the document of `push --json`.

    The repository is made where it is missing: private, and access by request (`gated`: "auto", "manual" or "off"; None
    keeps what is set, else "manual"). `public` needs `yes`, and opens it last, when everything was read back.
    Raises UsageError or IntegrityError for what must not be pushed, HubError for the Hub and the network.
    """
    root = Path(release).expanduser()
    root = root if root.name not in ("", "..") else root.resolve()  # the owner folder is found by its name
    require_choice(public, yes, gated)
    remote = Remote(repo)
    manifest = _require_releasable(root, allow_unproven)
    remote.require_writer()
    look = remote.look()
    try:
        files = _files(root, manifest)
        if look is not None:
            _require_ours(remote, look, files, public)
            if layout.CARD in look.files:
                files |= _merged(remote, look, root, manifest)
        return _upload(remote, look, files, public, gated, tell)
    except OSError as why:
        raise disk_error(why, root) from why


def require_choice(public: bool, yes: bool, gated: str | None) -> None:
    """Raises UsageError for settings that are not asked for clearly."""
    if gated not in (None, *GATES):
        raise UsageError(f"--gated is one of {', '.join(GATES)}, not {gated!r}.", "Leave it out for manual.")
    if public and not yes:
        raise UsageError("--public lets everybody find the release, and copies cannot be called back.", "Add --yes.")


def require_target(repo: str, grown: bool = False) -> None:
    """For `protect --push`, before its work: a token that may write, and a repository without data, unless it grows."""
    remote = Remote(repo)
    remote.require_writer()
    look = None if grown else remote.look()
    if look is not None:
        _require_ours(remote, look, {}, public=False)


def unproven(release: Path, manifest: Manifest) -> str | None:
    """Why nobody knows that the protection holds, or None when its verification stands.

    It fails when the drop of accuracy may be none at all, or may be below the `--min-drop` that `protect` was asked for
    (exit code 4; the owner folder remembers).
    """
    if manifest.verification is None:
        return "was not verified"
    low = manifest.verification["relative_accuracy_drop"]["low"]
    if low is None or low <= 0:
        return "did not pass its verification: networks may lose nothing by training on it"
    state = layout.owner_folder(release) / layout.STATE
    asked, measured = _told(state / layout.RECEIPT), _told(state / layout.VERIFICATION)
    least = asked.get("min_drop")
    if least is not None and (not measured or measured["worst_case"]["relative_accuracy_drop"]["low"] < least):
        return f"did not pass its verification: the drop may be below --min-drop {least:g}"
    return None


def _told(path: Path) -> dict[str, Any]:
    """A record of the owner's, empty where it is missing: a release may be pushed from elsewhere."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _require_releasable(root: Path, allow_unproven: bool) -> Manifest:
    found = check(root)
    if not found.ok:
        first = next(iter((*found.changed, *found.missing, *found.extra)), layout.ATTESTATION)
        raise IntegrityError(
            f"{root} is not as it was sealed ({first}), so it is not pushed.",
            f"See what differs: unlearnable check {root}",
        )
    manifest = Manifest.from_bytes((root / layout.MANIFEST).read_bytes())
    doubt = unproven(root, manifest)
    if doubt and not allow_unproven:
        raise UsageError(f"{root} {doubt}.", "Protect again with other settings, or pass --allow-unproven.")
    folders = Counter(str(PurePosixPath(entry.path).parent) for entry in manifest.files)
    folder, most = folders.most_common(1)[0]
    if len(manifest.files) > _MOST_FILES or most > _MOST_IN_FOLDER:
        raise UsageError(
            f"The Hub takes at most {_MOST_FILES:,} files and {_MOST_IN_FOLDER:,} in a folder; "
            f"{root} has {len(manifest.files):,}, and {most:,} in {folder}.",
            "Protect again with --layout parquet.",
        )
    return manifest


def _files(root: Path, manifest: Manifest) -> dict[str, _File]:
    listed = {entry.path: _File(entry.size, entry.sha256, root / entry.path) for entry in manifest.files}
    return listed | {name: _of((root / name).read_bytes()) for name in UNLISTED}


def _of(data: bytes) -> _File:
    return _File(len(data), hashlib.sha256(data).hexdigest(), data)


def _require_ours(remote: Remote, look: Look, files: Mapping[str, _File], public: bool) -> None:
    """Refuses a repository where something else lies or lay: history keeps what a newer commit replaces."""
    if not look.private and not public:
        raise UsageError(
            f"{remote.name} is public.", "Make it private on the website, or pass --public --yes to leave it so."
        )
    other = _other(look.files, files)
    if other:
        raise UsageError(f"{remote.name} already holds other files, such as {other}.", _FRESH)
    past = remote.past(look.commit, _MOST_COMMITS)
    if past is None:
        raise UsageError(f"{remote.name} has over {_MOST_COMMITS} commits, too many to look through.", _FRESH)
    for commit in past:
        other = _other(remote.files(commit), files)
        if other:
            raise UsageError(
                f"The history of {remote.name} holds other files, such as {other} (commit {commit[:8]}): "
                "who may read the repository may read them.",
                _FRESH,
            )


def _other(there: Mapping[str, Blob], files: Mapping[str, _File]) -> str | None:
    """The first file that is not of this release; what the Hub adds itself and older documents of ours do not count."""
    for path, blob in sorted(there.items()):
        if path in layout.FOREIGN or path == layout.CARD:
            continue
        if path not in files or not (path in _REPLACEABLE or files[path].is_at(blob)):
            return path
    return None


def _merged(remote: Remote, look: Look, root: Path, manifest: Manifest) -> dict[str, _File]:
    """The merged card and what then vouches for it; nothing when the Hub's card adds nothing."""
    ours = (root / layout.CARD).read_bytes()
    theirs = remote.read(layout.CARD, look.commit)
    if theirs == ours:
        return {}
    merged = card.merged(theirs.decode("utf-8", "replace"), ours.decode("utf-8"), manifest.splits).encode("utf-8")
    if merged == ours:
        return {}
    return {path: _of(data) for path, data in reseal(root, layout.owner_folder(root), {layout.CARD: merged}).items()}


def _upload(
    remote: Remote, look: Look | None, files: Mapping[str, _File], public: bool, gated: str | None, tell: Tell
) -> dict[str, Any]:
    """Makes the repository where there is none, sends what is missing, reads back, and opens it last if asked to."""
    if look is None:
        remote.create()
        look = _look(remote)
    gate = {"off": False, None: look.gated or "manual"}.get(gated, gated)
    remote.settings(private=look.private, gated=gate or False)
    wanting = {path: file for path, file in files.items() if not file.is_at(look.files.get(path))}
    moved: Moved | None = None
    if wanting:
        try:
            told = partial(_tell_sent, tell, len(wanting))
            sources = {path: file.source for path, file in wanting.items()}
            remote.send(sources, "Protected release", look.commit, told)
        except Moved as why:
            moved = why
    there = _look(remote)
    _require_same(remote, there, files, moved)
    if public and there.private:
        remote.settings(private=False, gated=gate or False)
    return {
        "repo": remote.name,
        "url": remote.url,
        "commit": there.commit,
        "private": not public,
        "gated": gate or False,
        "files": len(files),
        "sent": len(wanting),
        "bytes": sum(file.size for file in wanting.values()),
    }


def _tell_sent(tell: Tell, of: int, done: int) -> None:
    tell("sending", done, of)


def _look(remote: Remote) -> Look:
    look = remote.look()
    if look is None:
        raise Moved(f"{remote.name} is gone.", "Was it deleted or renamed? Repeat the command.")
    return look


def _require_same(remote: Remote, there: Look, files: Mapping[str, _File], moved: Moved | None) -> None:
    """What the Hub lists must be what the manifest lists: names, sizes and hashes."""
    wrong = [path for path, file in files.items() if not file.is_at(there.files.get(path))]
    extra = [path for path in there.files if path not in files and path not in layout.FOREIGN]
    if (wrong or extra) and moved:
        raise moved
    if wrong or extra:
        raise IntegrityError(
            f"Read back from {remote.name}, {len(wrong) + len(extra)} files are not those of the release, "
            f"such as {sorted(wrong + extra)[0]}.",
            "Repeat the push: what differs is sent again.",
        )

"""A finished release whose archive has gained, lost or changed images: what stays, byte for byte, and what is made anew.

An image stays when its original has the digest and the class it was protected with, also under another name. Everything
else is made with the key and the fit of the first run, so classes keep their patterns.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release import layout, records
from release.check import check
from release.reading import read_back, read_rows
from release.rows import Built, Row
from unlearnable.errors import IntegrityError, UsageError

# Options that change neither the patterns nor how files are made.
_FREE = {"verify", "against", "victim", "seeds", "device", "auto_seconds", "max_pixels"} | {
    *("key", "name", "licence", "contact", "disclose"),
}


@dataclass(frozen=True)
class Before:
    """The release as it is. parts: record ids of the study it rests on, None where there was none."""

    root: Path
    state: Path
    layout: str
    built: Built
    parts: dict[str, Any] | None

    def hand_over(self, state: Path) -> Kept:
        """Gives the fit and the evidence of `auto` to the run under way, unless it was interrupted and has them.

        Returns what finds the images that stay.
        """
        for name in (layout.FIT, layout.AUTO):
            if (self.state / name).exists() and not (state / name).exists():
                partial = state / f"{name}.copied"
                shutil.copyfile(self.state / name, partial)
                partial.replace(state / name)
        return Kept(self.root, self.layout, self.built)


class Kept:
    """Images of the release by what they were made of. Call it with a record's id, its original's digest and its class."""

    def __init__(self, root: Path, layout_name: str, built: Built) -> None:
        self._root, self._layout = root, layout_name
        self._by_id = {row.id: row for row in built.rows}
        self._by_content = {(row.original_sha256, row.of): row for row in reversed(built.rows)}

    def __call__(self, name: str, digest: str, of: str | None) -> tuple[Row, bytes] | None:
        same = self._by_id.get(name)
        if same is None or (same.original_sha256, same.of) != (digest, of):
            same = self._by_content.get((digest, of))
        return None if same is None else (same, next(read_back(self._root, [same], self._layout)))


def reopen(out: Path, deciding: dict[str, Any]) -> Before:
    """The release at `out` with its state. Raises UsageError when it is none or was made with other options,
    IntegrityError when it is not what was sealed."""
    if not (out / layout.MANIFEST).exists():
        raise UsageError(f"{out} is no finished release.", "Run the same command without --grow.")
    receipt, state = records.receipt_of(out)
    if not check(out).ok:
        raise IntegrityError(f"{out} is not as it was sealed.", f"See which files: unlearnable check {out}")
    before = json.loads((state / layout.PLAN).read_text(encoding="utf-8"))["options"]
    now = json.loads(json.dumps(deciding))
    others = sorted(k for k in before.keys() | now.keys() if k not in _FREE and before.get(k) != now.get(k))
    if others:
        named = ", ".join("--" + name.replace("_", "-") for name in others)
        raise UsageError(f"{out} was made with other options: {named}.", "Repeat those, or use --overwrite.")
    return Before(out, state, receipt["settings"]["layout"], read_rows(state / layout.SHARDS), receipt["parts"])

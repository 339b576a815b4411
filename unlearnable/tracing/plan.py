"""What is committed before a release is published: which tests, with which secrets, read at which level.

The plan is a JSON document. Its commitment, SHA-256(nonce + canonical JSON) with a nonce of 256 secret bits, stands in the
manifest; the nonce and the plan stay in the owner folder and are opened in an evidence file alone. So nobody can read the
secrets out of a release, and the owner cannot choose test, key or level after looking at a suspect. The nonce also seeds
what a test draws beside the secret (decoys, which picture carries which pattern): nothing is left to choose later.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from unlearnable.craft import Method
from unlearnable.keys import NONCE_BYTES
from unlearnable.params import as_dict
from unlearnable.tracing import probes
from unlearnable.tracing.secret import Marks
from unlearnable.version import __version__

FORMAT = "unlearnable trace plan, version 1"
ALPHA = 0.001
DECOYS, SLOW_DECOYS = 999, 249  # 999 is what alpha 0.001 needs
_SLOW = ("autoregressive",)  # half a second a key
IMAGES = 20  # pictures that carry a pattern, for each key
PLAIN = 400  # pictures that are asked as they are


def make(
    name: str,
    method: Method,
    state: Mapping[str, Any],
    stages: Sequence[Sequence[str]],
    levels: int,
    size: int,
    key: Mapping[str, str],
    *,
    named: bool,
    only: Sequence[str] | None = None,
    marks: Marks | None = None,
) -> dict[str, Any]:
    """The plan of a release. stages: its classes, in the groups in which they were added; key: its commitment;
    named: whether the classes are the owner's and not clusters, which no model's answers can name; only: those that are
    protected, None for all."""
    tests = [probe.NAME for probe in probes.every() if named and probe.applies(method, state, marks)]
    return {
        "format": FORMAT,
        "tool": __version__,
        "release": name,
        "method": {"name": method.name, "preset": method.preset, "params": as_dict(method.params)},
        "levels": levels,
        "size": size,
        "classes": [list(stage) for stage in stages],
        "only": None if only is None else list(only),
        "key": dict(key),
        "targets": state["targets"] if "derangement" in tests else None,
        "marks": marks.described() if marks else None,
        "named": named,
        "primary": tests[0] if tests else None,
        "secondary": tests[1:],
        "alpha": ALPHA,
        "decoys": SLOW_DECOYS if method.name in _SLOW else DECOYS,
        "images": IMAGES,
        "plain_images": PLAIN,
    }


def new_nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)

"""Patterns that name several files: {000..123}, {a,b}, * and ?."""

from __future__ import annotations

import glob
import itertools
import re
from pathlib import Path

from unlearnable.errors import UsageError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST = 1_000_000


def is_pattern(spec: str) -> bool:
    return any(sign in spec for sign in "{*?[")


def expanded(spec: str) -> list[Path]:
    """The files it names, in order. Raises UsageError when there are none, or one that braces name is missing."""
    path = Path(spec).expanduser()
    if path.exists():
        return [path.resolve()]
    found: list[Path] = []
    for name in _braced(str(path)):
        if glob.has_magic(name):
            found += [Path(each).resolve() for each in sorted(glob.glob(name))]  # noqa: PTH207 - it may be absolute
        elif Path(name).is_file():
            found.append(Path(name).resolve())
        else:
            raise UsageError(f"{name}, which {spec} names, is not there.", "Fetch it, or narrow the pattern.")
    if not found:
        raise UsageError(f"There is no file like {spec}.", "Check the pattern.")
    return list(dict.fromkeys(found))


def _braced(text: str) -> list[str]:
    parts = _BRACES.split(text)  # every second one stood in braces
    choices = [[part] if i % 2 == 0 else _choices(part) for i, part in enumerate(parts)]
    count = 1
    for each in choices:
        count *= len(each)
    if count > _MOST:
        raise UsageError(f"{text} names {count:,} files.", f"At most {_MOST:,} are looked for.")
    return ["".join(each) for each in itertools.product(*choices)]


def _choices(inside: str) -> list[str]:
    numbers = _RANGE.fullmatch(inside)
    if numbers is None:
        return inside.split(",")
    first, last = int(numbers[1]), int(numbers[2])
    if last - first >= _MOST:
        raise UsageError(f"{{{inside}}} names {last - first + 1:,} files.", f"At most {_MOST:,} are looked for.")
    return [f"{number:0{len(numbers[1])}d}" for number in range(first, last + 1)]

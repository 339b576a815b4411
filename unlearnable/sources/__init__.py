"""Where images come from: one module a kind of source, found by its file name.

A module holds `matches(spec) -> bool`, which looks without reading much and never touches the network, and
`open(spec, options) -> Source`. Matches exclude each other; a module with `FALLBACK = True` steps back when another
one knows the same path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from unlearnable import registry
from unlearnable.errors import UsageError
from unlearnable.types import Source

SPLIT_NAMES = ("train", "test", "val", "valid", "validation", "dev", "eval")


@dataclass(frozen=True)
class Options:
    """How to read a source.

    split: only this one. image_column, label_column: of a dataset, where they cannot be found by type.
    labels: "auto", "folders" (first folder level), "none", or the path of a CSV file with columns file_name and label.
    streaming: read a Hub dataset over the network and keep nothing of it on the disk; other sources never are copied.
    """

    split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    labels: str = "auto"
    streaming: bool = False


def open_source(
    spec: str,
    *,
    split: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    labels: str = "auto",
    streaming: bool = False,
) -> Source:
    """Opens a folder, archive, list, image, parquet file, remote folder, saved or Hub dataset, as `spec` names it, and
    lists it.

    Raises UsageError when there is no such source, it holds no images, or its labels cannot be used; HubError when the
    Hub or the storage cannot be reached.
    """
    if not spec.strip():
        raise UsageError("The source has no name.", "Give a folder, a .parquet file or a Hub dataset OWNER/NAME.")
    modules = [registry.load("sources", name) for name in registry.names("sources")]
    found = [module for module in modules if module.matches(spec)]
    if len(found) > 1:
        found = [module for module in found if not getattr(module, "FALLBACK", False)]
    if len(found) != 1:
        raise UsageError(*_unknown(spec, [module.__name__.rpartition(".")[2] for module in found]))
    source: Source = found[0].open(spec, Options(split, image_column, label_column, labels, streaming))
    return source


def choose_split(known: list[str], wanted: str | None, spec: str) -> list[str]:
    """The splits to use, in the order given. Raises UsageError when `wanted` is not among the known."""
    if wanted is None:
        return known
    if wanted not in known:
        raise UsageError(f"{spec} has no split {wanted!r}.", registry.nearest(wanted, known))
    return [wanted]


def one_class_error(spec: str, name: str) -> UsageError:
    return UsageError(
        f"All images of {spec} have the same label ({name}).",
        "A class-wise method needs two classes; use --labels none to protect without labels.",
    )


def _unknown(spec: str, several: list[str]) -> tuple[str, str]:
    path = Path(spec).expanduser()
    if several:
        return f"{spec} could be read as {' and as '.join(several)}.", "Name the file or folder inside it."
    if path.exists():
        return (
            f"{spec} is a single file that is no image and no archive.",
            "Give a folder, image, .zip, .tar, .parquet or a .txt list.",
        )
    hint = "Check the path." if not re.fullmatch(r"[\w.-]+", spec) else "Check the path; a Hub dataset is OWNER/NAME."
    return f"There is no file or folder {spec}.", hint

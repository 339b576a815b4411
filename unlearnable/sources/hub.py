"""A dataset on the Hugging Face Hub: owner/name, or hf://datasets/owner/name, with @revision and :configuration if wanted.

Fetched by `datasets`, so its cache, HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN work as everywhere; loading scripts are
refused by it. Kept undecoded. With --streaming it is read over the network instead, and nothing of it is kept (`_stream`).
A folder inside a dataset, hf://datasets/owner/name/folder, is another source: remote.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

from unlearnable.errors import HubError, UnlearnableError, UsageError
from unlearnable.remote import without_secrets
from unlearnable.sources import Options, _datasets, _stream
from unlearnable.sources._table import TableSource

_PREFIX = "hf://datasets/"
_WORD = r"[A-Za-z0-9][\w.-]*"
_SPECIAL = "refs/(?:convert|pr)/"  # the only revisions with a slash in an address of the Hub
_INSIDE = re.compile(rf"{_WORD}/{_WORD}(?:@(?:{_SPECIAL}[\w.-]+|(?!{_SPECIAL})[\w.%-]+))?/.+")
_SPEC = re.compile(rf"(?P<repo>{_WORD}/{_WORD})(?:@(?P<revision>[\w./-]+))?(?::(?P<config>[\w.-]+))?")


def matches(spec: str) -> bool:
    """By spelling only. A path is no Hub id: one that exists, or whose first folder does ("photos/misspelt")."""
    if spec.startswith(_PREFIX):
        return not _INSIDE.fullmatch(spec.removeprefix(_PREFIX).rstrip("/"))
    return bool(_SPEC.fullmatch(spec)) and not Path(spec).exists() and not Path(spec).parent.exists()


def open(spec: str, options: Options) -> TableSource:
    """Fetches the dataset, finds it in the cache, or looks where its files lie. Raises HubError when the Hub refuses or cannot
    be reached."""
    found = _SPEC.fullmatch(spec.removeprefix(_PREFIX).rstrip("/"))
    if found is None:
        raise UsageError(f"{spec} is not a Hub dataset's name.", "Write it OWNER/NAME.")
    if Path(found["repo"]).exists():  # `datasets` would read it instead, without a word
        raise UsageError(f"{spec} is a Hub dataset, but a folder {found['repo']} lies here.", "Give the folder's path.")
    library = _datasets.require()
    from huggingface_hub.errors import HfHubHTTPError

    # Its first base is the error of the HTTP library, whichever one this version of the Hub client uses.
    network = HfHubHTTPError.__bases__[0]
    expected: tuple[type[Exception], ...] = (OSError, ValueError, RuntimeError, library.exceptions.DatasetsError)
    expected += (network,)
    try:
        if options.streaming:
            splits = _stream.splits(library, found["repo"], found["config"], found["revision"])
        else:
            splits = _datasets.splits(library.load_dataset(found["repo"], found["config"], revision=found["revision"]))
    except expected as why:
        if isinstance(why, OSError) and why.errno == errno.ENOSPC:
            raise
        raise _explained(spec, why, library) from None  # the chain could print an address with a token in it
    return TableSource(spec, "hub", splits, options, trusted=not options.streaming)


def _explained(spec: str, why: Exception, library: Any) -> UnlearnableError:
    """One sentence and a way out for what `datasets` raised."""
    said = without_secrets(str(why).strip().partition("\n")[0])
    if isinstance(why, library.exceptions.DatasetNotFoundError):
        return HubError(
            f"There is no folder {spec}, and no dataset of that name on the Hub that you may read.",
            "Check the name; for a private or gated dataset set HF_TOKEN or run: hf auth login",
        )
    if isinstance(why, library.exceptions.DatasetsError):
        return HubError(f"The Hub dataset {spec} cannot be loaded ({said}).", "Is it a dataset of images in parquet?")
    if isinstance(why, ConnectionError) and "offline" in str(why).lower():
        return HubError(
            f"{spec} is not in the cache, and the Hub is switched off.", "Unset HF_HUB_OFFLINE to fetch it."
        )
    if isinstance(why, ValueError) and "onfig" in str(why):
        return UsageError(f"The Hub dataset {spec} has several configurations ({said}).", f"Choose one: {spec}:NAME")
    if isinstance(why, ValueError | RuntimeError) and not isinstance(why, OSError):
        return UsageError(f"The Hub dataset {spec} cannot be loaded ({said}).", "Download it and give its files.")
    return HubError(
        f"{spec} is no folder here, and the Hub could not be reached for it ({said}).",
        "Check the name and the network.",
    )

"""What `Dataset.save_to_disk` and `DatasetDict.save_to_disk` wrote, read back memory-mapped."""

from __future__ import annotations

from pathlib import Path

from unlearnable.errors import UsageError
from unlearnable.sources import Options, _datasets, _schema
from unlearnable.sources._table import TableSource


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    dictionary = (path / "dataset_dict.json").is_file()
    return dictionary or ((path / "state.json").is_file() and (path / "dataset_info.json").is_file())


def open(spec: str, options: Options) -> TableSource:
    """Opens the saved dataset. Raises UsageError when files of it are missing or damaged."""
    library, arrow = _datasets.require(), _schema.arrow()
    path = Path(spec).expanduser()
    try:
        loaded = library.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, arrow.ArrowInvalid) as why:
        raise UsageError(
            f"{spec} cannot be read as a saved dataset ({why}).", "Save it again, or fetch it whole."
        ) from why
    return TableSource(spec, "saved", _datasets.splits(loaded), options, beside=path)

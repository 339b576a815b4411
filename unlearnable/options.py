"""What `protect` can be asked: the command line's options, by the same names and with the same defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from unlearnable import budget, imageio, params, registry
from unlearnable.errors import UsageError

_CHOICES = {
    "format": ("auto", "png", "jpeg", "webp"),
    "metadata": ("keep", "no-gps", "strip"),
    "trace": ("auto", "none", "canary", "canary-unrolled", "radioactive"),
}
_PROTOCOLS = ("quick", "paper", "none")  # of verify; or a TOML file
_FILES = ("weights", "key")
_LABELS = ("auto", "folders", "none")  # or a CSV file
# options that touch neither bytes nor figures: a rerun with others of these is still the same job
_OUTSIDE = ("overwrite", "workers", "min_drop", "force", "grow", "engine", "address", "shard", "fit_only")


@dataclass(frozen=True)
class Options:
    """Everything optional about one `protect`."""

    method: str | None = None  # None or "auto": chosen by measurement
    preset: str | None = None
    set: dict[str, Any] = field(default_factory=dict)
    eps: int | None = None  # None: 8, or no bound for a method that has none; see `levels`
    size: int | None = None  # working size; None follows the images
    split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    labels: str = "auto"
    streaming: bool = False  # a Hub dataset: over the network, and nothing of it on the disk
    classes: tuple[str, ...] | None = None  # protect these alone; None: all. Names, also between commas
    clusters: int = 10
    weights: Path | None = None  # of torchvision's ResNet-18, to cluster with
    format: str = "auto"
    quality: int = 95
    layout: str = "auto"
    metadata: str = "keep"
    opt_out: bool = True
    max_pixels: float = imageio.LIMIT_MEGAPIXELS  # in millions
    key: Path | None = None
    verify: str = "quick"  # quick, paper, none or a TOML file
    against: tuple[str, ...] = ()
    victim: str | None = None  # several between commas
    seeds: int | None = None
    trace: str = "auto"  # what a later `trace` can find: all but auto and none mark some images in the poison's place
    trace_share: float = 0.01  # of the images that are marked
    device: str = "auto"
    workers: int | None = None
    auto_seconds: float = 180.0
    min_drop: float | None = None
    overwrite: bool = False
    grow: bool = False  # into the finished release: what is new, changed or was skipped
    engine: str = "local"
    address: str | None = None  # of a cluster, for an engine that works on one
    fit_only: bool = False  # stop when everything is learned that shards need
    shard: tuple[int, int] | None = None  # (i, n): of the shards, number i, i + n, i + 2 n ... alone; i from 0
    force: bool = False  # protect what is protected already
    name: str | None = None
    licence: str | None = None
    contact: str | None = None
    disclose: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.against, str):
            object.__setattr__(self, "against", (self.against,))
        if isinstance(self.classes, str):
            object.__setattr__(self, "classes", (self.classes,))
        if self.eps is not None:
            if not isinstance(self.eps, int):
                raise UsageError(f"--eps is a whole number of grey levels, not {self.eps!r}.")
            budget.resolve(self.eps, self._unbounded())
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"--{name} is one of {', '.join(allowed)}, not {getattr(self, name)!r}.")
        if self.verify not in _PROTOCOLS and not self.verify.endswith(".toml"):
            raise UsageError(f"--verify is one of {', '.join(_PROTOCOLS)} or a .toml file, not {self.verify!r}.")
        if not 50 <= self.quality <= 100:
            raise UsageError(f"--quality is 50 to 100, not {self.quality}.")
        if not 2 <= self.clusters <= 1000:
            raise UsageError(f"--clusters is 2 to 1000, not {self.clusters}.")
        if not 0.0001 <= self.trace_share <= 0.5:
            raise UsageError(f"--trace-share is 0.0001 to 0.5 of the images, not {self.trace_share:g}.")
        if not 0.001 <= self.max_pixels <= 100_000:
            raise UsageError(f"--max-pixels is 0.001 to 100000 megapixels, not {self.max_pixels:g}.")
        if self.shard is not None and not 0 <= self.shard[0] < self.shard[1] <= 1_000_000:
            raise UsageError(f"--shard is i/n with i from 0 to n - 1, not {self.shard[0]}/{self.shard[1]}.")
        if (self.shard or self.fit_only) and (self.overwrite or self.grow):
            hint = "Make the fit anew with --fit-only after removing the unfinished run, or protect in one run."
            raise UsageError("--shard and --fit-only make a new release: no --overwrite, no --grow.", hint)
        if self.shard and self.fit_only:
            raise UsageError("--fit-only comes first, once; then one run for every --shard.")
        if self.size is not None and not 8 <= self.size <= 1024:
            raise UsageError(f"--size is 8 to 1024 pixels, not {self.size}.")

    @property
    def levels(self) -> int:
        """The budget in grey levels, 1 to 255: the one place where `eps` is resolved."""
        return budget.resolve(self.eps, self._unbounded())

    def _unbounded(self) -> bool:
        name = params.check_method(self.method, self.preset, self.set)  # None: `auto` tries bounded methods alone
        return name is not None and bool(registry.describe("poisons", name).facts.get("UNBOUNDED"))

    def only(self, known: Sequence[str] | None) -> tuple[str, ...] | None:
        """The classes to protect, of a source's `known` ones; None: all. Raises UsageError for names that are not there."""
        if not self.classes:
            return None
        if known is None:
            hint = "Name their classes with --labels, or leave out --classes."
            raise UsageError("--classes needs labels, and these images have none.", hint)
        wanted: list[str] = []
        for given in self.classes:  # a name may hold a comma itself
            wanted += [given] if given in known else [part.strip() for part in given.split(",") if part.strip()]
        for name in wanted:
            if name not in known:
                raise UsageError(f"There is no class {name!r} to protect.", registry.nearest(name, list(known)))
        return tuple(name for name in known if name in wanted)

    def reading(self) -> dict[str, Any]:
        """How the source is read."""
        names = ("split", "image_column", "label_column", "labels", "streaming")
        return {name: getattr(self, name) for name in names}

    def deciding(self) -> dict[str, Any]:
        """The options that decide bytes or figures, as plain JSON values."""
        given = {name: value for name, value in vars(self).items() if name not in _OUTSIDE} | {"eps": self.levels}
        if self.trace in ("auto", "none"):  # no byte of an image depends on them, and older jobs have none
            del given["trace"], given["trace_share"]
        if not self.streaming:  # it decides where files are cut; older jobs have none
            del given["streaming"]
        if self.verify not in _PROTOCOLS:  # what the file says decides, wherever it lies
            try:
                given["verify"] = Path(self.verify).expanduser().read_text(encoding="utf-8")
            except OSError as why:
                raise UsageError(f"{self.verify} cannot be read ({why.strerror}).", "Name a protocol's file.") from why
        return {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}

    def given(self) -> dict[str, Any]:
        """All options as plain JSON values; see `restored`."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}

    @staticmethod
    def restored(given: Mapping[str, Any], folder: Path = Path()) -> Options:
        """The options that `given` spelled, after a way through JSON. Those of another version are left at their defaults.

        folder: where it was asked, and relative paths in it start.
        """
        known = {each.name for each in fields(Options)} & given.keys()
        values: dict[str, Any] = {name: tuple(of) if isinstance(of := given[name], list) else of for name in known}
        values |= {name: folder / Path(given[name]).expanduser() for name in _FILES if given.get(name)}
        if given.get("labels", "auto") not in _LABELS:
            values["labels"] = str(folder / Path(given["labels"]).expanduser())
        if given.get("verify", "none") not in _PROTOCOLS:
            values["verify"] = str(folder / Path(given["verify"]).expanduser())
        return Options(**values)

    def proving(self, source: str | None, diagnose: bool) -> list[str]:
        """Command-line words of a `verify` with these options."""
        words = ["--protocol" if word == "--verify" else word for word in self.words()]
        return words + (["--source", source] if source else []) + (["--diagnose"] if diagnose else [])

    def words(self) -> list[str]:
        """Command-line words for every option that is not at its default."""
        words: list[str] = []
        defaults = Options()
        for name, value in vars(self).items():
            if value == getattr(defaults, name) or name == "overwrite":
                continue
            flag = "--" + name.replace("_", "-")
            if name == "set":
                words += [part for key, item in value.items() for part in (flag, f"{key}={item}")]
            elif isinstance(value, bool):
                words += [flag if value else flag.replace("--", "--no-", 1)]
            elif name == "shard":
                words += [flag, f"{value[0]}/{value[1]}"]
            elif isinstance(value, tuple):
                words += [part for item in value for part in (flag, str(item))]
            else:
                words += [flag, str(value)]
        return words

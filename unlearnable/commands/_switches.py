"""Options that several commands share, and the groups of those that `protect` has many of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from unlearnable.remote import is_address

Decorator = Callable[[Any], Any]
PROGRESS = "unlearnable.progress"


def together(*options: Decorator) -> Decorator:
    """One decorator for several options, shown by --help in this order."""

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


class _Place(click.ParamType[Path | str]):
    """A path, or the address of a place on remote storage, which no path can spell."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        del param, ctx
        return value if is_address(str(value)) else Path(value)


class _Here(click.Path):
    """A path on this machine: an address is refused as such, and not as a folder that is missing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if is_address(str(value)):
            self.fail(f"{value} lies on remote storage. Bring a copy here, beside its owner folder.", param, ctx)
        return super().convert(value, param, ctx)


place, here = _Place(), _Here(path_type=Path)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout, errors included.")
quiet = together(
    click.option("-q", "--quiet", is_flag=True, help="No progress on stderr: --progress none."),
    click.option(
        "--progress",
        type=click.Choice(["auto", "plain", "json", "none"]),
        default="auto",
        show_default=True,
        expose_value=False,  # `_shell` asks the context for it, so that no command has to hand it on
        callback=lambda context, option, given: context.meta.update({PROGRESS: given}),
        help="auto: a live line, or plain lines where stderr is no terminal; json: one object a line, see docs/output.md.",
    ),
)
against = click.option(
    "--against",
    multiple=True,
    metavar="NAME",
    help="Also train victims under a countermeasure: names of `defences`, cheap or all.",
)
victim = click.option(
    "--victim",
    metavar="NET",
    multiple=True,
    callback=lambda context, option, given: ",".join(given) or None,
    help="The network to train; see `victims`. Repeated, or a,b: the first is the headline.  [default: by protocol]",
)
seeds = click.option("--seeds", type=click.IntRange(1, 20), help="Trainings of each arm.  [default: by protocol]")
device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
proving = together(against, victim, seeds, device)

reading = together(
    click.option("--split", metavar="NAME", help="This split only."),
    click.option("--image-column", metavar="NAME", help="Of a dataset, where it cannot be told."),
    click.option("--label-column", metavar="NAME", help="Of a dataset, where it cannot be told."),
    click.option(
        "--labels", default="auto", show_default=True, help="auto, folders, none, or a CSV (file_name,label)."
    ),
    click.option(
        "--streaming",
        is_flag=True,
        help="Read a Hub dataset over the network, row group by row group, and keep nothing of it on the disk.",
    ),
    click.option("--clusters", type=int, default=10, show_default=True, help="How many, for images without labels."),
    click.option(
        "--weights", type=click.Path(path_type=Path), help="Of torchvision's ResNet-18, to cluster by its features."
    ),
)
making = together(
    click.option(
        "--format",
        type=click.Choice(["auto", "png", "jpeg", "webp"]),
        default="auto",
        show_default=True,
        help="Of the files; auto keeps each one's own.",
    ),
    click.option(
        "--quality", type=click.IntRange(50, 100), default=95, show_default=True, help="Of JPEG, always 4:4:4."
    ),
    click.option(
        "--layout", metavar="NAME", default="auto", show_default=True, help="auto, folder, parquet or webdataset."
    ),
    click.option(
        "--metadata",
        type=click.Choice(["keep", "no-gps", "strip"]),
        default="keep",
        show_default=True,
        help="What of EXIF and XMP ships. Thumbnails never do.",
    ),
    click.option(
        "--opt-out/--no-opt-out",
        default=True,
        show_default=True,
        help="Write `no data mining` (plus:DataMining) into XMP.",
    ),
    click.option(
        "--max-pixels", type=float, default=200, show_default=True, metavar="MILLIONS", help="Refuse larger images."
    ),
)
workers = click.option(
    "--workers", type=click.IntRange(1, 256), help="Processes that decode and encode.  [default: one per core]"
)
spreading = together(
    workers,
    click.option(
        "--engine",
        metavar="NAME",
        default="local",
        show_default=True,
        help="Who makes the shards: local, this machine; ray, a Ray cluster.",
    ),
    click.option(
        "--address",
        metavar="ADDRESS",
        help="Of a Ray cluster that runs already, such as auto or ray://HOST:10001.  [default: $RAY_ADDRESS, or one here]",
    ),
)
telling = together(
    click.option("--name", help="Title of the release.  [default: OUT's name]"),
    click.option("--licence", metavar="ID", help="Licence for the card, such as cc-by-nc-nd-4.0."),
    click.option("--contact", help="Contact for the card."),
    click.option("--disclose", is_flag=True, help="Let the card name method, parameters and countermeasures."),
)

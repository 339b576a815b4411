"""`preview`: a dozen images before a long run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from unlearnable.commands import _shell, _switches


@click.command()
@click.argument("source")
@click.option(
    "--out", type=click.Path(path_type=Path), default="preview.html", show_default=True, help="A .html or .png."
)
@click.option("--method", metavar="NAME", help="A name of `methods`.")
@click.option("--preset", metavar="NAME", help="Settings from the literature, such as r16, p100 or su.")
@click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="A parameter of the method. Repeatable."
)
@click.option("--eps", type=int, help="Largest change of a pixel, in grey levels of 255.")
@_switches.reading
@click.option("--format", default="auto", show_default=True, help="auto, png, jpeg or webp.")
@click.option("--quality", type=click.IntRange(50, 100), default=95, show_default=True, help="Of JPEG, always 4:4:4.")
@click.option("--key", type=click.Path(path_type=Path), help="A key file: the run with it makes the same copies.")
@click.option("--overwrite", is_flag=True, help="Replace the file that is at --out.")
@_switches.device
@_switches.as_json
@_switches.quiet
@_shell.command
def command(source: str, out: Path, assignments: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Show a dozen images of SOURCE as originals, differences and protected, before a long run.

    One file, readable by you alone: it holds originals and is not for publication.
    """
    from unlearnable import api, params

    asked = api.Options(set=params.parse_assignments(assignments), force=True, **options)
    with _shell.progress(quiet) as tell:
        document = api.preview(source, out, asked, tell=tell)
    _shell.show(document, as_json, "previewed")

"""`merge`: from shards that several runs made to one sealed release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from unlearnable.commands import _shell, _switches


@click.command()
@click.argument("out", type=_switches.place)
@click.argument("copies", nargs=-1, type=_switches.here)
@click.option("--source", metavar="SOURCE", help="Where the originals are.  [default: as --fit-only was told]")
@click.option("--min-drop", type=float, metavar="SHARE", help="Exit with 4 if the relative drop may be below this.")
@_switches.as_json
@_switches.quiet
@_shell.command
def command(out: Path | str, as_json: bool, quiet: bool, min_drop: float | None, **options: Any) -> int:
    """Verify and seal OUT, whose shards were made by runs of `protect --shard i/n`.

    COPIES are other copies of it, from machines that share no disk: each names the two folders COPY.owner and
    .COPY.partial, whose finished shards are copied here first.

    \b
    unlearnable protect photos/ photos-protected/ --fit-only
    unlearnable protect photos/ photos-protected/ --shard 0/2     # on one machine
    unlearnable protect photos/ photos-protected/ --shard 1/2     # and on another
    unlearnable merge photos-protected/
    """
    from unlearnable import api

    with _shell.progress(quiet) as tell:
        document = api.merge(out, min_drop=min_drop, tell=tell, **options)
    _shell.show_release(document, as_json)
    return api.exit_code(document, min_drop)

"""`verify`: does it hold, and against whom?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from unlearnable.commands import _shell, _switches


@click.command()
@click.argument("release", type=_switches.here)
@click.option("--source", metavar="SOURCE", help="Where the originals are now.  [default: as recorded]")
@click.option(
    "--protocol",
    metavar="quick|paper|FILE.toml",
    default="quick",
    show_default=True,
    help="quick: minutes on a CPU; paper: 100 epochs of ResNet-18; a file: your own, see docs/verify.md.",
)
@click.option("--diagnose", is_flag=True, help="Also look at the perturbation: transfer, linear probe, frequencies.")
@click.option("--fresh", is_flag=True, help="Train again what was trained before on the same.")
@click.option("--dry-run", is_flag=True, help="Print what would be trained and how long it takes, and stop.")
@_switches.proving
@_switches.as_json
@_switches.quiet
@_shell.command
def command(release: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Train what a scraper would train on RELEASE's bytes and test it on the clean originals.

    Reads OUT.owner beside RELEASE, which says where the originals are and which of them were held out.
    """
    from unlearnable import api

    with _shell.progress(quiet) as tell:
        document = api.verify(release, tell=tell, **options)
    _shell.show(document, as_json, "verification" if "arms" in document else "planned")

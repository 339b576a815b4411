"""`check`: is a release as it was signed?"""

from __future__ import annotations

from pathlib import Path

import click

from unlearnable.commands import _shell, _switches


@click.command()
@click.argument("release", type=click.Path(path_type=Path))
@click.option("--public-key", type=click.Path(path_type=Path), help="The signer's key, if you know it from elsewhere.")
@_switches.as_json
@_shell.command
def command(release: Path, public_key: Path | None, as_json: bool) -> int:
    """Is every file of RELEASE as it was signed? Names each changed, missing and extra one."""
    from release.check import check as check_release

    found = check_release(release, public_key).to_json()
    _shell.show(found, as_json, "checked")
    return 0 if found["ok"] else 5

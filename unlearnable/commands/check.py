"""`check`: is a release as it was signed?"""

from __future__ import annotations

from pathlib import Path

import click

from unlearnable.commands import _shell, _switches
from unlearnable.errors import UsageError
from unlearnable.remote import is_address, locate


@click.command()
@click.argument("release")
@click.option("--public-key", type=click.Path(path_type=Path), help="The signer's key, if you know it from elsewhere.")
@click.option("--source", metavar="SOURCE", help="The originals: also look whether anything of them is in RELEASE.")
@_switches.as_json
@_switches.quiet
@_shell.command
def command(release: str, public_key: Path | None, source: str | None, as_json: bool, quiet: bool) -> int:
    """Is every file of RELEASE as it was signed? Names each changed, missing and extra one.

    RELEASE is a folder, or an address on remote storage such as s3://bucket/name.

    With --source every picture is laid beside its original: is it changed, and within the budget; is any a copy of an
    original; is anything of one left in a file. OUT.owner beside RELEASE says which is which; a tree of files needs none.
    """
    from release.check import check as check_release
    from release.check import with_source

    if is_address(release):
        from release.depot import Far

        if source is not None:
            raise UsageError(
                "--source lays files beside files.", f"Copy {release} here first, beside its owner folder."
            )
        found = check_release(Far(locate(release)), public_key).to_json()
    elif source is None:
        found = check_release(Path(release), public_key).to_json()
    else:
        with _shell.progress(quiet) as tell:
            found = with_source(Path(release), source, public_key, tell)
    _shell.show(found, as_json, "checked")
    return 0 if found["ok"] else 5

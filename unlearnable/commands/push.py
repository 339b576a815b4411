"""`push`: a release onto the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from unlearnable.commands import _shell, _switches


@click.command()
@click.argument("release", type=_switches.here)
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--public", is_flag=True, help="Let everybody find it. Needs --yes.")
@click.option("--yes", is_flag=True, help="I know that copies of public files cannot be called back.")
@click.option(
    "--gated",
    type=click.Choice(["auto", "manual", "off"]),
    help="Who asks gets access at once, when you agree, or need not ask.  [default: as it is, else manual]",
)
@click.option("--allow-unproven", is_flag=True, help="Push a release whose verification is absent or failed.")
@_switches.as_json
@_switches.quiet
@_shell.command
def command(release: Path, repo: str, as_json: bool, quiet: bool, **options: Any) -> None:
    """Put RELEASE into the dataset repository OWNER/NAME of the Hugging Face Hub.

    Private and gated unless you say otherwise; one commit, read back file by file. Repeat the command to go on after a
    failure. The token is the Hub client's: HF_TOKEN, or `hf auth login`.
    """
    from release.push import push as push_release

    with _shell.progress(quiet) as tell:
        document = push_release(release, repo, tell=tell, **options)
    _shell.show(document, as_json, "pushed")

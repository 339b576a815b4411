"""`trace`: was this model trained on my release?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from unlearnable.commands import _shell, _switches
from unlearnable.errors import UsageError


@click.command()
@click.argument("release", type=_switches.here)
@click.option(
    "--model",
    metavar="MODEL",
    help="NETWORK@FILE, timm:NETWORK@FILE, timm:FOLDER, FILE.pt (TorchScript), FILE.onnx, http://..., or FILE.csv of "
    "answers.",
)
@click.option(
    "--write-queries",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Ask nothing: write the pictures to show a service by hand, and a queries.csv to fill in.",
)
@click.option("--source", metavar="SOURCE", help="Where the originals are now.  [default: as recorded]")
@click.option("--labels", type=click.Path(path_type=Path), help="Names of the model's outputs in order, one a line.")
@click.option(
    "--size",
    type=click.IntRange(8, 1024),
    help="Side of the model's input.  [default: what an ONNX file fixes, else as the pictures are]",
)
@click.option("--normalise", metavar="NAME", help="imagenet, half or none.  [default: by the kind of model]")
@click.option(
    "--header",
    metavar="NAME:VALUE",
    envvar="UNLEARNABLE_HEADER",
    help="Sent with HTTP requests, such as a token. Written nowhere; UNLEARNABLE_HEADER keeps it off the command line.",
)
@click.option("--decoys", type=int, help="Fewer secrets to compare with, to save queries.  [default: as committed]")
@click.option("--images", type=int, help="Fewer pictures for each secret.  [default: as committed]")
@_switches.as_json
@_switches.quiet
@_shell.command
def command(release: Path, header: str | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Test whether a model was trained on RELEASE, and write signed evidence to OUT.owner/trace.

    The tests compare the model's answers for the secret of this release with its answers for other secrets. They were fixed
    before publication; docs/trace.md says what each asks, and what it does not prove.

    \b
    unlearnable trace photos-protected/ --model resnet18@suspect.safetensors
    unlearnable trace photos-protected/ --write-queries queries/ --decoys 19 --images 5
    unlearnable trace photos-protected/ --model queries/queries.csv --decoys 19 --images 5
    """
    name, colon, value = (header or "").partition(":")
    plain = (header or "").isascii() and (header or "").isprintable()  # else http.client would show it in its refusal
    if header and not (name.strip() and colon and plain):
        raise UsageError("--header is NAME:VALUE, in plain letters.", 'Such as "Authorization: Bearer TOKEN".')
    from unlearnable import api

    sent = (name.strip(), value.strip()) if header else None
    with _shell.progress(quiet) as tell:
        document = api.trace(release, header=sent, tell=tell, **options)
    _shell.show(document, as_json, "traced" if "verdict" in document else "queried")

"""The command line: parses, calls one function of `unlearnable.api`, prints.

Results go to stdout, progress and notes to stderr. Nothing heavy is imported before a command needs it, so that help and
listings answer at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from release import shell, switches
from unlearnable import registry
from unlearnable.errors import BELOW_MIN_DROP, UnlearnableError, UsageError
from unlearnable.version import __version__

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=shell.Group, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="unlearnable")
def cli() -> None:
    """Protect images against training on their public copies, and prove it.

    \b
    unlearnable protect photos/ photos-protected/    make a protected, verified, signed copy
    unlearnable check photos-protected/              is every file as it was signed?
    unlearnable push photos-protected/ owner/photos  onto the Hugging Face Hub, private and gated
    """


@cli.command()
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--method", metavar="NAME", help="A name of `methods`.  [default: auto, chosen by measurement]")
@click.option("--preset", metavar="NAME", help="Settings from the literature, such as r16, p100 or su.")
@click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="A parameter of the method. Repeatable."
)
@click.option(
    "--eps",
    type=int,
    help="Largest change of a pixel, in grey levels of 255.  [default: 8; no bound for a method that has none]",
)
@click.option("--size", type=int, help="Side at which patterns are made.  [default: the images', 224 for photos]")
@switches.reading
@switches.making
@click.option("--key", type=click.Path(path_type=Path), help="A key file to use.  [default: a new one in OUT.owner]")
@click.option(
    "--verify",
    metavar="quick|paper|FILE.toml|none",
    default="quick",
    show_default=True,
    help="How to prove it: a protocol, as of `verify`.",
)
@switches.proving
@click.option("--workers", type=click.IntRange(1, 256), help="Threads that encode.  [default: one per core]")
@click.option("--auto-seconds", type=float, default=60.0, show_default=True, help="Time for choosing a method.")
@click.option("--min-drop", type=float, metavar="SHARE", help="Exit with 4 if the relative drop may be below this.")
@click.option("--overwrite/--resume", default=False, help="Replace the release that is at OUT.")
@click.option(
    "--grow",
    "--retry-failed",
    "grow",
    is_flag=True,
    help="OUT is finished: make what is new, changed or was skipped, drop what is gone, and seal again.",
)
@click.option("--force", is_flag=True, help="Protect what is a protected copy already.")
@click.option("--dry-run", is_flag=True, help="Print counts, skips, time, space and memory to expect; write nothing.")
@switches.telling
@click.option("--push", "repo", metavar="OWNER/NAME", help="Then push it to the Hub, private and gated; see `push`.")
@switches.as_json
@switches.quiet
@shell.command
def protect(
    source: str,
    out: Path,
    assignments: tuple[str, ...],
    repo: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int | None:
    """Write a protected, verified and signed copy of SOURCE to the new folder OUT.

    SOURCE is a folder of images (class folders, split folders or neither), a .zip, .tar or .tar.gz of one, a .txt or .csv
    list of files, one image, WebDataset shards ("train-{0000..0063}.tar"), parquet files, a saved dataset or a Hub
    dataset OWNER/NAME; it is never changed. Keys and the full report go to OUT.owner, which stays with you.

    \b
    unlearnable protect photos/ photos-protected/
    unlearnable protect cifar/ cifar-protected/ --preset r16 --against cheap
    """
    from unlearnable import params

    chosen = params.parse_assignments(assignments)
    params.check_method(
        options["method"], options["preset"], chosen
    )  # a misspelled name is answered before torch loads
    for network in [
        *(options["victim"] or "").split(","),
        *(name for name, _ in registry.ensemble(chosen.get("net", "small"))),
    ]:
        if network:
            registry.require_network(network)
    if repo:
        _before_push(repo, options)
    from unlearnable import api

    asked = api.Options(set=chosen, **options)
    if dry_run:
        with shell.progress(quiet) as tell:
            document = api.plan_run(source, out, asked, tell=tell)
        shell.show(document, as_json, "forecast")
        return 0
    with shell.progress(quiet) as tell:
        document = api.protect(source, out, asked, tell=tell)
        code = api.exit_code(document, options["min_drop"])
        if repo and code != BELOW_MIN_DROP:
            document["push"] = _pushed_after(api.push, out, repo, tell)
    if as_json:
        click.echo(json.dumps({key: value for key, value in document.items() if key != "skipped"}, indent=2))
    else:
        from release import console

        console.protected(document)
        if "push" in document:
            console.pushed(document["push"])
        elif repo:
            click.echo(f"Not pushed to {repo}: the protection is below --min-drop.", err=True)
    return code


@cli.command()
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
@click.option("--labels", default="auto", show_default=True, help="auto, folders, none, or a CSV (file_name,label).")
@click.option("--format", default="auto", show_default=True, help="auto, png, jpeg or webp.")
@click.option("--quality", type=click.IntRange(50, 100), default=95, show_default=True, help="Of JPEG, always 4:4:4.")
@click.option("--key", type=click.Path(path_type=Path), help="A key file: the run with it makes the same copies.")
@click.option("--overwrite", is_flag=True, help="Replace the file that is at --out.")
@switches.device
@switches.as_json
@switches.quiet
@shell.command
def preview(source: str, out: Path, assignments: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Show a dozen images of SOURCE as originals, differences and protected, before a long run.

    One file, readable by you alone: it holds originals and is not for publication.
    """
    from unlearnable import api, params

    asked = api.Options(set=params.parse_assignments(assignments), force=True, **options)
    with shell.progress(quiet) as tell:
        document = api.preview(source, out, asked, tell=tell)
    shell.show(document, as_json, "previewed")


def _before_push(repo: str, options: dict[str, Any]) -> None:
    """What would make `push` refuse is told before hours of work."""
    from release.push import require_target

    if options["verify"] == "none":
        hint = "Leave --push out, and push afterwards with --allow-unproven."
        raise UsageError("--push takes a verified release, and --verify none makes none.", hint)
    require_target(repo, grown=options["grow"])


def _pushed_after(push: Callable[..., Any], out: Path, repo: str, tell: Any) -> Any:
    """The push at the end of `protect`; when it fails, the release is there, and that must be said."""
    try:
        return push(out, repo, tell=tell)
    except UnlearnableError as why:
        why.hint = f"The release {out} is finished. {why.hint} Then: unlearnable push {out} {repo}"
        raise


@cli.command()
@click.argument("release", type=click.Path(path_type=Path))
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--public", is_flag=True, help="Let everybody find it. Needs --yes.")
@click.option("--yes", is_flag=True, help="I know that copies of public files cannot be called back.")
@click.option(
    "--gated",
    type=click.Choice(["auto", "manual", "off"]),
    help="Who asks gets access at once, when you agree, or need not ask.  [default: as it is, else manual]",
)
@click.option("--allow-unproven", is_flag=True, help="Push a release whose verification is absent or failed.")
@switches.as_json
@switches.quiet
@shell.command
def push(release: Path, repo: str, as_json: bool, quiet: bool, **options: Any) -> None:
    """Put RELEASE into the dataset repository OWNER/NAME of the Hugging Face Hub.

    Private and gated unless you say otherwise; one commit, read back file by file. Repeat the command to go on after a
    failure. The token is the Hub client's: HF_TOKEN, or `hf auth login`.
    """
    from release.push import push as push_release

    with shell.progress(quiet) as tell:
        document = push_release(release, repo, tell=tell, **options)
    shell.show(document, as_json, "pushed")


@cli.command()
@click.argument("release", type=click.Path(path_type=Path))
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
@switches.proving
@switches.as_json
@switches.quiet
@shell.command
def verify(release: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Train what a scraper would train on RELEASE's bytes and test it on the clean originals.

    Reads OUT.owner beside RELEASE, which says where the originals are and which of them were held out.
    """
    from unlearnable import api

    with shell.progress(quiet) as tell:
        document = api.verify(release, tell=tell, **options)
    shell.show(document, as_json, "verification" if "arms" in document else "planned")


@cli.command()
@click.argument("release", type=click.Path(path_type=Path))
@click.option("--public-key", type=click.Path(path_type=Path), help="The signer's key, if you know it from elsewhere.")
@switches.as_json
@shell.command
def check(release: Path, public_key: Path | None, as_json: bool) -> int:
    """Is every file of RELEASE as it was signed? Names each changed, missing and extra one."""
    from release.check import check as check_release

    found = check_release(release, public_key).to_json()
    shell.show(found, as_json, "checked")
    return 0 if found["ok"] else 5


def _listing(kind: str, noun: str, note: str = "") -> Callable[..., None]:
    @click.argument("name", required=False)
    @switches.as_json
    @shell.command
    def show(name: str | None, as_json: bool) -> None:
        from unlearnable.listing import described, details, lines

        if name:
            text = details(kind, name)
            found = [each for each in described(kind) if text[0].startswith(f"{each['name']}:")]
        else:
            found = described(kind)
            text = [*lines(found), "", *([note] if note else []), "With a NAME: all about it."]
        click.echo(json.dumps(found, indent=2) if as_json else "\n".join(text))

    show.__doc__ = f"List the {noun}; with NAME, tell all about one: claim, limits, paper, cost, parameters."
    return show


cli.command("methods")(_listing("poisons", "protection methods and their presets"))
cli.command("defences")(_listing("defences", "countermeasures that --against can try"))
_ANY_NETWORK = """\
Any other classification network of torchvision works by its name. NAME@WEIGHTS starts from weights: a file (.safetensors,
.pt, .pth), hf://OWNER/NAME/FILE, or a name of torchvision's such as DEFAULT; frozen:NAME@WEIGHTS trains a last layer alone."""
cli.command("victims")(_listing("nets", "networks that can be trained", _ANY_NETWORK))


if __name__ == "__main__":
    cli()

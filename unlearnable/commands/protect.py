"""`protect`: the whole job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from unlearnable import registry
from unlearnable.commands import _shell, _switches
from unlearnable.errors import BELOW_MIN_DROP, UnlearnableError, UsageError


@click.command()
@click.argument("source")
@click.argument("out", type=_switches.place)
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
@click.option(
    "--classes",
    multiple=True,
    metavar="NAME",
    callback=lambda context, option, given: given or None,
    help="Protect these classes alone, and ship the others as they are: a,b or repeated.  [default: all]",
)
@click.option("--size", type=int, help="Side at which patterns are made.  [default: the images', 224 for photos]")
@_switches.reading
@_switches.making
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    help="A key file to use.  [default: the archive's own, from your root secret]",
)
@click.option(
    "--verify",
    metavar="quick|paper|FILE.toml|none",
    default="quick",
    show_default=True,
    help="How to prove it: a protocol, as of `verify`.",
)
@click.option(
    "--trace",
    type=click.Choice(["auto", "none", "canary", "canary-unrolled", "radioactive"]),
    default="auto",
    show_default=True,
    help="What `trace` can find later. auto: the poison's own secrets; the others mark some images in its place.",
)
@click.option(
    "--trace-share", type=float, default=0.01, show_default=True, metavar="SHARE", help="Of the images that are marked."
)
@_switches.proving
@_switches.spreading
@click.option(
    "--fit-only",
    is_flag=True,
    help="Learn what the shards need, keep it in OUT.owner, and stop: first step of --shard.",
)
@click.option(
    "--shard",
    metavar="I/N",
    help="Make every N-th shard from number I on (from 0) and stop; `merge` verifies and seals. After --fit-only.",
)
@click.option(
    "--auto-seconds", type=float, default=180.0, show_default=True, help="Time for choosing a method, at most."
)
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
@_switches.telling
@click.option("--push", "repo", metavar="OWNER/NAME", help="Then push it to the Hub, private and gated; see `push`.")
@_switches.as_json
@_switches.quiet
@_shell.command
def command(
    source: str,
    out: Path | str,
    assignments: tuple[str, ...],
    repo: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int | None:
    """Write a protected, verified and signed copy of SOURCE to the new folder OUT.

    SOURCE is a folder of images (class folders, split folders or neither), a .zip, .tar or .tar.gz of one, a .txt or .csv
    list of files, one image, WebDataset shards ("train-{0000..0063}.tar"), parquet files, a saved dataset, a Hub dataset
    OWNER/NAME or a folder on remote storage (s3://bucket/photos); it is never changed. Keys and the full report go to
    OUT.owner, which stays with you. OUT may be remote too: OUT.owner is then made in the folder you are in.

    \b
    unlearnable protect photos/ photos-protected/
    unlearnable protect cifar/ cifar-protected/ --preset r16 --against cheap
    """
    from unlearnable import params

    options["shard"] = _part(options["shard"]) if options["shard"] else None
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
    if repo and isinstance(out, str):
        raise UsageError(f"--push takes a release on this machine, and {out} is not.", "Name a folder for OUT.")
    if options["shard"] or options["fit_only"]:
        _only_a_part(repo, dry_run, options)
    if repo:
        _before_push(repo, options)
    from unlearnable import api

    asked = api.Options(set=chosen, **options)
    if dry_run:
        with _shell.progress(quiet) as tell:
            document = api.plan_run(source, out, asked, tell=tell)
        _shell.show(document, as_json, "forecast")
        return 0
    with _shell.progress(quiet) as tell:
        document = api.protect(source, out, asked, tell=tell)
        if asked.shard or asked.fit_only:
            return _shell.show_part(document, as_json)
        code = api.exit_code(document, options["min_drop"])
        if repo and code != BELOW_MIN_DROP:
            document["push"] = _pushed_after(api.push, out, repo, tell)
    _shell.show_release(document, as_json)
    if repo and "push" not in document and not as_json:
        click.echo(f"Not pushed to {repo}: the protection is below --min-drop.", err=True)
    return code


def _part(given: str) -> tuple[int, int]:
    """ "2/8" as numbers. Raises UsageError."""
    number, slash, of = given.partition("/")
    if not (slash and number.isascii() and number.isdigit() and of.isascii() and of.isdigit()):
        raise UsageError(f"--shard is i/n, such as 0/8 for the first of eight parts, not {given!r}.")
    return int(number), int(of)


def _only_a_part(repo: str | None, dry_run: bool, options: dict[str, Any]) -> None:
    """Refuses what only a whole release can do."""
    for name, there, way in (
        ("--push", repo, "Push it when `merge` has sealed it."),
        ("--min-drop", options["min_drop"] is not None, "Give it to `merge`."),
        ("--dry-run", dry_run, "Ask before, without --fit-only and --shard."),
    ):
        if there:
            raise UsageError(f"{name} is about a whole release, and this makes a part of one.", way)


def _before_push(repo: str, options: dict[str, Any]) -> None:
    """What would make `push` refuse is told before hours of work."""
    from release.push import require_target

    if options["verify"] == "none":
        hint = "Leave --push out, and push afterwards with --allow-unproven."
        raise UsageError("--push takes a verified release, and --verify none makes none.", hint)
    require_target(repo, grown=options["grow"])


def _pushed_after(push: Callable[..., Any], out: Path | str, repo: str, tell: Any) -> Any:
    """The push at the end of `protect`; when it fails, the release is there, and that must be said."""
    try:
        return push(out, repo, tell=tell)
    except UnlearnableError as why:
        why.hint = f"The release {out} is finished. {why.hint} Then: unlearnable push {out} {repo}"
        raise

"""What every command shares: failures in one sentence, one JSON document or words, progress on stderr."""

from __future__ import annotations

import functools
import importlib
import itertools
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from unlearnable import registry
from unlearnable.commands._switches import PROGRESS
from unlearnable.errors import FINISHED_WITH_SKIPS, INTERRUPTED, UnlearnableError

_FIRST = ("protect", "verify", "check", "preview", "push")  # in the help; the others follow by name


class Group(click.Group):
    """Finds a command by its file, and turns failures into one sentence, or with --json one document, whoever raised them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        names = [name.replace("_", "-") for name in registry.names("commands")]
        return sorted(names, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"unlearnable.commands.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        command.name = cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Whole sentences, which click would cut off."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(999)) for name, command in found if command])

    def main(self, args: Any = None, **extra: Any) -> Any:  # type: ignore[override]
        words = list(sys.argv[1:] if args is None else args)
        as_json, events = "--json" in words, _events(words)
        try:
            code = super().main(args, **(extra | {"standalone_mode": False}))
        except click.ClickException as why:
            if as_json:
                _print_error(why.format_message(), "", why.exit_code)
            if events:
                _tell_error(why.format_message(), "", why.exit_code)
            else:
                why.show()
            code = why.exit_code
        except click.exceptions.Abort:
            code = INTERRUPTED
        except Exception as why:  # noqa: BLE001 - the last resort, and it tells everything
            traceback.print_exc()
            _fail(
                f"A fault of the tool: {type(why).__name__}: {why}",
                "Please report it with the lines above.",
                1,
                as_json,
                events,
            )
        sys.exit(code or 0)


def command(function: Callable[..., int | None]) -> Callable[..., None]:
    """Wraps a command: its return value is the exit code; errors become one sentence, or one JSON document."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        as_json = bool(kwargs.get("as_json"))
        events = not kwargs.get("quiet") and click.get_current_context().meta.get(PROGRESS) == "json"
        try:
            code = function(*args, **kwargs) or 0
        except UnlearnableError as why:
            _fail(why.message, why.hint, why.exit_code, as_json, events)
        except KeyboardInterrupt as why:
            hint = "What is finished is kept: repeat the same command to go on."
            _fail(f"Interrupted. {why}".strip(), hint, INTERRUPTED, as_json, events)
        else:
            sys.exit(code)

    return run


def _fail(message: str, hint: str, code: int, as_json: bool, events: bool = False) -> None:
    if as_json:
        _print_error(message, hint, code)
    if events:
        _tell_error(message, hint, code)
    else:
        click.echo(click.style("Error: ", fg="red") + message + (f"\n{hint}" if hint else ""), err=True)
    sys.exit(code)


def _tell_error(message: str, hint: str, code: int) -> None:
    from release import progress as shown

    shown.event("error", code=code, message=message, hint=hint)


def _events(words: list[str]) -> bool:
    """Whether JSON events were asked for, also where the command line is wrong elsewhere."""
    return "--progress=json" in words or ("--progress", "json") in itertools.pairwise(words)


def _print_error(message: str, hint: str, code: int) -> None:
    click.echo(json.dumps({"error": {"code": code, "message": message, "hint": hint}}, indent=2))


def show(document: dict[str, Any], as_json: bool, how: str) -> None:
    """One JSON document, or the words of the function `how` of the console."""
    from release import console

    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        getattr(console, how)(document)


def show_release(document: dict[str, Any], as_json: bool) -> None:
    """What `protect` or `merge` made; the JSON document leaves out which images were skipped: the receipt has them."""
    from release import console

    if as_json:
        click.echo(json.dumps({key: value for key, value in document.items() if key != "skipped"}, indent=2))
        return
    console.protected(document)
    if "push" in document:
        console.pushed(document["push"])


def show_part(document: dict[str, Any], as_json: bool) -> int:
    """What a run with --fit-only or --shard did, and its exit code."""
    if not document:  # of a distributed fit, the first process speaks for all
        return 0
    show(document, as_json, "part")
    return FINISHED_WITH_SKIPS if document["images"].get("skipped") else 0


def progress(quiet: bool) -> Any:
    """Opens what shows progress in the style that was asked for; it gives the function to tell it."""
    from release import progress as shown

    return shown.progress("none" if quiet else click.get_current_context().meta[PROGRESS])

"""What every command shares: failures in one sentence, one JSON document or words, progress on stderr."""

from __future__ import annotations

import functools
import importlib
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from unlearnable import registry
from unlearnable.errors import INTERRUPTED, UnlearnableError

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

    def main(self, args: Any = None, **extra: Any) -> Any:  # type: ignore[override]
        as_json = "--json" in (sys.argv[1:] if args is None else args)
        try:
            code = super().main(args, **(extra | {"standalone_mode": False}))
        except click.ClickException as why:
            if as_json:
                _print_error(why.format_message(), "", why.exit_code)
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
            )
        sys.exit(code or 0)


def command(function: Callable[..., int | None]) -> Callable[..., None]:
    """Wraps a command: its return value is the exit code; errors become one sentence, or one JSON document."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        as_json = bool(kwargs.get("as_json"))
        try:
            code = function(*args, **kwargs) or 0
        except UnlearnableError as why:
            _fail(why.message, why.hint, why.exit_code, as_json)
        except KeyboardInterrupt:
            hint = "What is finished is kept: repeat the same command to go on."
            _fail("Interrupted.", hint, INTERRUPTED, as_json)
        else:
            sys.exit(code)

    return run


def _fail(message: str, hint: str, code: int, as_json: bool) -> None:
    if as_json:
        _print_error(message, hint, code)
    click.echo(click.style("Error: ", fg="red") + message + (f"\n{hint}" if hint else ""), err=True)
    sys.exit(code)


def _print_error(message: str, hint: str, code: int) -> None:
    click.echo(json.dumps({"error": {"code": code, "message": message, "hint": hint}}, indent=2))


def show(document: dict[str, Any], as_json: bool, how: str) -> None:
    """One JSON document, or the words of the function `how` of the console."""
    from release import console

    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        getattr(console, how)(document)


def progress(quiet: bool) -> Any:
    from release import console

    return console.progress(quiet)

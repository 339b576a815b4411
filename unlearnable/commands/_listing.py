"""What `methods`, `defences` and `victims` share."""

from __future__ import annotations

import json

import click

from unlearnable.commands import _shell, _switches


def listing(name_of: str, kind: str, noun: str, note: str = "") -> click.Command:
    """The command that lists one kind of thing."""

    @click.argument("name", required=False)
    @_switches.as_json
    @_shell.command
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
    return click.command(name_of)(show)

"""`key`: the owner's keys, made once for all archives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from unlearnable.commands import _shell, _switches

_locked = click.option(
    "--passphrase", is_flag=True, help="Ask for a passphrase; UNLEARNABLE_PASSPHRASE gives it unasked."
)


@click.group()
def command() -> None:
    """Make, show, back up and rotate your keys: one to sign releases, one secret for all archives.

    They lie in one file of your configuration folder (UNLEARNABLE_CONFIG names another), which `protect` makes on first use.
    """


@command.command()
@_locked
@_switches.as_json
@_shell.command
def new(passphrase: bool, as_json: bool) -> None:
    """Make your keys, before `protect` does."""
    from release import keyring

    _shell.show(_shown(keyring.new(_new_passphrase(passphrase))), as_json, "keys")


@command.command()
@_switches.as_json
@_shell.command
def show(as_json: bool) -> None:
    """Where your keys are, and the fingerprint to tell to others. Shows no secret."""
    from release import keyring

    _shell.show(_shown(keyring.existing()), as_json, "keys")


@command.command("export-public")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@_shell.command
def export_public(file: Path | None) -> None:
    """Write the public key (PEM) to FILE, or print it: what others give to `check --public-key`."""
    from release import keyring, sign
    from unlearnable.errors import UsageError, disk_error

    ring = keyring.existing()
    if file is None:
        click.echo(ring.public_pem.decode("ascii"), nl=False)
        return
    try:
        sign.write_new(file.expanduser(), ring.public_pem, 0o644)
    except FileExistsError as why:
        raise UsageError(f"{file} exists.", "Name a new file.") from why
    except OSError as why:
        raise disk_error(why, file) from why


@command.command()
@_locked
@_switches.as_json
@_shell.command
def rotate(passphrase: bool, as_json: bool) -> None:
    """Put new keys in the place of yours; the old ones stay beside them for what they signed."""
    from release import keyring

    there = keyring.current()
    ask = passphrase or (there is not None and there.has_passphrase)  # no way to lose one unasked
    _, ring = keyring.rotate(_new_passphrase(ask))
    _shell.show(_shown(ring), as_json, "keys")


@command.command()
@click.option("--remove", is_flag=True, help="Keep the keys without a passphrase from now on.")
@_switches.as_json
@_shell.command
def passphrase(remove: bool, as_json: bool) -> None:
    """Give your keys a passphrase, another one, or (--remove) none. Asks on the terminal, never takes it from a word."""
    from release import keyring

    ring = keyring.existing()
    ring.secrets()  # the one there is, before the next is asked for
    wanted = None if remove else _prompted()
    _shell.show(_shown(keyring.change_passphrase(ring, wanted)), as_json, "keys")


def _new_passphrase(ask: bool) -> str | None:
    import os

    from release import keyring

    return os.environ.get(keyring.PASSPHRASE) or (_prompted() if ask else None)


def _prompted() -> str:
    chosen: str = click.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True)
    return chosen


def _shown(ring: Any) -> dict[str, Any]:
    from release import keyring

    return {
        "file": str(ring.path),
        "fingerprint": ring.fingerprint,
        "created": ring.created,
        "passphrase": ring.has_passphrase,
        "retired": [{"file": str(old.path), "fingerprint": old.fingerprint} for old in keyring.retired()],
    }

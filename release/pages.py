"""How the templates of cards and pages are filled in: they refuse to print what they were not given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

SMALL = 96  # pixels of a picture; below this, smoothing would show what is not there
_TEMPLATES = Path(__file__).with_name("templates")


def environment(**escaping: Any) -> Environment:
    """escaping: jinja2's words for what is done to everything that a template prints."""
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **escaping,
    )


def html(name: str, context: Mapping[str, Any]) -> str:
    """A page from its template, everything in it escaped unless it is Markup."""
    return environment(autoescape=True).get_template(name).render(context)


def raw(name: str) -> Markup:
    """A file that goes into a page as it is: a style sheet or a script of ours."""
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))

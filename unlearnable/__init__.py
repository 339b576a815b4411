"""Protects image data sets against training on their public copies, and proves it.

    import unlearnable
    unlearnable.protect("photos", "photos-protected", unlearnable.Options(preset="r16"))

The functions of `unlearnable.api` appear here when they are first used, so that importing the package stays quick.
"""

from __future__ import annotations

from typing import Any

from unlearnable.version import __version__

__all__ = [
    "Options",
    "__version__",
    "check",
    "exit_code",
    "merge",
    "methods",
    "plan_run",
    "preview",
    "protect",
    "push",
    "trace",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from unlearnable import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

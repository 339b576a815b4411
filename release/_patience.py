"""Which failures of the Hub pass by themselves, and how long to wait for that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

TRIES = 6
AGAIN = (408, 429, 500, 502, 503, 504)
_FIRST_WAIT = 1.0  # seconds, doubled each time
_LONGEST_WAIT = 300.0  # the Hub counts requests in windows of five minutes


def cause(why: Exception, network: type[Exception]) -> Exception:
    """What went wrong below the client's own words about it."""
    while not isinstance(why, network | OSError) and isinstance(why.__cause__, Exception):
        why = why.__cause__
    return why


def status(why: Exception) -> int | None:
    """The HTTP status it carries, or None."""
    code = getattr(getattr(why, "response", None), "status_code", None)
    return code if isinstance(code, int) else None


def pause(why: Exception, tried: int, network: type[Exception], patient: bool) -> float | None:
    """Seconds to wait before another try, or None when it would not help.

    An upload that failed inside the client (RuntimeError around the cause) was repeated there already.
    """
    wait = min(_FIRST_WAIT * 2 ** (tried - 1), _LONGEST_WAIT)
    code = status(why)
    if code in AGAIN:
        asked = _retry_after(why)
        return None if asked is not None and asked > _LONGEST_WAIT else wait if asked is None else asked
    broken = code is None and isinstance(why, network | ConnectionError | TimeoutError)
    return wait if broken and patient else None


def _retry_after(why: Exception) -> float | None:
    """What the server asked for, in seconds: Retry-After, or the `t` of the Hub's RateLimit header."""
    headers = getattr(getattr(why, "response", None), "headers", {})
    found = re.search(r"r\s*=\s*0\s*;\s*t\s*=\s*(\d+)", headers.get("RateLimit", ""))
    seconds = found[1] if found else headers.get("Retry-After", "")
    return float(seconds) if re.fullmatch(r"\d+", seconds) else None


@contextmanager
def without_bars() -> Iterator[None]:
    """The client draws bars of its own; progress is told in one place here."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()

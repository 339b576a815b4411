"""An HTTP endpoint: {"images": [base64 PNG, ...]} is posted, {"answers": [...]} comes back, one for each picture.

An answer is {"label": "cat"}, or {"probabilities": {"cat": 0.9, "dog": 0.1}}, or both; a label is a name or the number of an
output. Where the first answers have no probabilities, the model gives top-1. 429 and 5xx are tried again twice.
"""

from __future__ import annotations

import base64
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import torch
from torch import Tensor

from unlearnable.errors import HubError, UsageError
from unlearnable.tracing.answers import PROBABILITIES, TOP, Answers, Names
from unlearnable.tracing.models import Seen
from unlearnable.tracing.pictures import png

AT_ONCE = 16
_TRIES, _TIMEOUT = 3, 60.0
_LONGEST = 64 << 20  # bytes of an answer


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a token would go along to wherever it leads."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_Stay)


class Endpoint:
    def __init__(self, address: str, names: Names, seen: Seen) -> None:
        try:
            parts = urllib.parse.urlsplit(address)
        except ValueError as why:
            raise UsageError(f"--model {address} is no address ({why}).") from why
        # what comes after "?" or before "@" may be a password
        self.shown = urllib.parse.urlunsplit((parts.scheme, parts.hostname or "", parts.path, "", ""))
        self.white, self.files = None, ()
        self._address, self._names, self._seen = address, names, seen
        blank = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
        self.gives = TOP if self.ask(blank).probabilities is None else PROBABILITIES

    def ask(self, images: Tensor) -> Answers:
        answers = [answer for part in torch.split(images, AT_ONCE) for answer in self._post(part)]
        top, rows = [], []
        for answer in answers:
            said, label = self._said(answer), answer.get("label")
            if label is None and not said:
                raise UsageError(f"{self.shown} answered without a label.", "See the protocol in docs/trace.md.")
            top.append(self._names.number(str(label) if label is not None else max(said, key=lambda name: said[name])))
            named = {self._names.number(name): value for name, value in said.items()}
            rows.append([named.get(k, 0.0) for k in range(len(self._names.classes))] if said else None)
        known = [row for row in rows if row is not None]
        whole = torch.tensor(known, dtype=torch.float64) if len(known) == len(rows) else None
        return Answers(torch.tensor(top), whole)

    def _said(self, answer: dict[str, Any]) -> dict[str, float]:
        try:
            return {str(name): float(value) for name, value in (answer.get("probabilities") or {}).items()}
        except (AttributeError, TypeError, ValueError) as why:
            raise UsageError(f"{self.shown} gave probabilities that are none ({why}).", "See docs/trace.md.") from why

    def _post(self, images: Tensor) -> list[dict[str, Any]]:
        body = json.dumps({"images": [base64.b64encode(png(image)).decode("ascii") for image in images]}).encode()
        headers = {"Content-Type": "application/json"} | (dict([self._seen.header]) if self._seen.header else {})
        for attempt in range(1, _TRIES + 1):
            request = urllib.request.Request(self._address, body, headers, method="POST")
            try:
                with _OPENER.open(request, timeout=_TIMEOUT) as reply:
                    return self._checked(reply.read(_LONGEST), len(images))
            except urllib.error.HTTPError as why:
                if attempt == _TRIES or not (why.code == 429 or why.code >= 500):
                    raise HubError(
                        f"{self.shown} refused: HTTP {why.code} {why.reason}.", "Is a token missing? --header."
                    ) from None
            except (OSError, http.client.HTTPException) as why:
                if attempt == _TRIES:
                    raise HubError(
                        f"{self.shown} cannot be reached ({type(why).__name__}).", "Is it running?"
                    ) from None
            time.sleep(0.2 * attempt)
        raise AssertionError("every last attempt returns or raises")

    def _checked(self, data: bytes, wanted: int) -> list[dict[str, Any]]:
        try:
            answers = json.loads(data)["answers"]
        except (ValueError, KeyError, TypeError, RecursionError) as why:
            raise UsageError(f'{self.shown} did not answer {{"answers": [...]}}.', "See docs/trace.md.") from why
        if not isinstance(answers, list) or len(answers) != wanted or not all(isinstance(a, dict) for a in answers):
            raise UsageError(f"{self.shown} gave no answer for each of {wanted} pictures.", "See docs/trace.md.")
        return answers


def matches(spec: str) -> bool:
    return spec.startswith(("http://", "https://"))


def open_model(spec: str, names: Names, seen: Seen) -> Endpoint:
    return Endpoint(spec, names, seen)

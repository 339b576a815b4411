"""What lies in the owner folder is read again as it was written, or refused in a sentence that names the file."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from unlearnable import craft
from unlearnable.errors import IntegrityError
from unlearnable.keys import Key
from unlearnable.tracing.secret import Marks
from unlearnable.types import Context

CONTEXT = Context(Key(bytes(32)), ("cat", "dog"), 8, 16)


class Exploit:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def fit(tmp_path: Path) -> Path:
    craft.save(craft.fit(craft.resolve(None, "r16", {}), None, CONTEXT), tmp_path / "fit.pt")
    return tmp_path / "fit.pt"


def test_a_fit_comes_back_as_it_was(fit: Path) -> None:
    crafter = craft.load(fit, CONTEXT)
    images, labels = torch.zeros(2, 3, 16, 16, dtype=torch.uint8), torch.tensor([0, 1])
    again = craft.fit(crafter.method, None, CONTEXT).on(("a", "b"), images, labels)
    assert torch.equal(crafter.on(("a", "b"), images, labels), again) and crafter.context.classes == ("cat", "dog")
    assert list(fit.parent.iterdir()) == [fit]


def changed(**changes: Any) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        torch.save(torch.load(path, weights_only=True) | changes, path)

    return damage


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "junk": lambda path: path.write_bytes(b"\x80junk" * 100),
    "code": lambda path: path.write_bytes(pickle.dumps(Exploit(path.with_name("it-ran")))),
    "a list": lambda path: torch.save([1, 2], path),
    "no fields": lambda path: torch.save({}, path),
    "no such method": changed(method="../keys"),
    "no such parameter": changed(params={"count": 16, "more": 1}),
    "out of range": changed(params={"count": -1}),
    "no state": changed(state=None),
    "no size": changed(size="large"),
    "no labeller": changed(labeller={"side": 8}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_or_hostile_fit_is_a_sentence_with_a_way_out_and_runs_nothing(fit: Path, name: str) -> None:
    DAMAGE[name](fit)
    with pytest.raises(IntegrityError, match=r"fit\.pt cannot be read") as why:
        craft.load(fit, CONTEXT)
    assert "--overwrite" in why.value.hint and not fit.with_name("it-ran").exists()


def test_damaged_marks_are_a_sentence_too(tmp_path: Path) -> None:
    path = tmp_path / "marks.pt"
    Marks("canary", ("a",), torch.zeros(1, 3, 4, 4, dtype=torch.int8), {"labels": [1]}).save(path)
    assert Marks.load(path).ids == ("a",)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(IntegrityError, match=r"marks\.pt cannot be read"):
        Marks.load(path)

"""Small sources that every test may use, made afresh; nothing here needs the network or data from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from made_pictures import write_tree
from PIL import Image

torch.set_num_threads(1)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three classes of twenty 16x16 PNG pictures."""
    return write_tree(tmp_path / "pictures")


@pytest.fixture
def pixels() -> Callable[[Path], np.ndarray]:
    return lambda path: np.asarray(Image.open(path))


@pytest.fixture(scope="session", autouse=True)
def own_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests share keys for one run and never see the owner's. Before every other fixture, whatever its scope."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("config")
        patch.setenv("UNLEARNABLE_CONFIG", str(folder))
        patch.delenv("UNLEARNABLE_PASSPHRASE", raising=False)
        yield folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests share a cache for one run and never see the owner's."""
    monkeypatch.setenv("UNLEARNABLE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))

"""One labelled dataset with more columns than image and label."""

from __future__ import annotations

import pytest
from source_files import picture


@pytest.fixture
def rows() -> dict[str, list[object]]:
    """Twelve rows of three classes, as `source_files.FEATURES` has them."""
    return {
        "caption": [f"picture {i}" for i in range(12)],
        "image": [{"bytes": picture(i, "JPEG"), "path": f"cat {i}.jpg"} for i in range(12)],
        "label": [i % 3 for i in range(12)],
        "box": [[i, i + 1] for i in range(12)],
    }

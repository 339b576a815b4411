from __future__ import annotations

from collections.abc import Callable

import pytest
from made_release import make_facts  # under a name of its own: `conftest` may be another folder's

from release.facts import Facts


@pytest.fixture
def made() -> Callable[..., Facts]:
    """`make_facts`: writes data into a staging folder and returns the facts about it."""
    return make_facts

"""A dataset that wants to run its own code is refused, and its code does not run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_server import serving
from source_files import as_parquet
from test_hub import opened

pytest.importorskip("datasets")

SCRIPT = "import pathlib\npathlib.Path({mark!r}).touch()\n"


@pytest.mark.parametrize("beside", [False, True], ids=["a script alone", "a script beside parquet files"])
def test_a_loading_script_on_the_hub_never_runs(rows, tmp_path: Path, beside: bool) -> None:
    repo, mark = tmp_path / "repo", tmp_path / "it-ran"
    repo.mkdir()
    if beside:
        as_parquet(rows, repo)
    for name in ("tiny.py", "dataset.py", "setup.py", "__init__.py"):
        (repo / name).write_text(SCRIPT.format(mark=str(mark)))
    home = tmp_path / "home"
    home.mkdir()
    with serving("owner/tiny", repo) as address:
        found = opened("owner/tiny", home, HF_ENDPOINT=address, HF_DATASETS_TRUST_REMOTE_CODE="1")
    assert not mark.exists()
    if not beside:
        code, words = found
        assert code in (2, 6) and ("cript" in words or "parquet" in words or "cannot be loaded" in words)

"""Several runs make one release: the fit once, shards anywhere, brought together and sealed; the same bytes in every way."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import cli
import unlearnable
from release import layout, records
from release.manifest import Manifest
from unlearnable import Options
from unlearnable.errors import IntegrityError, UsageError
from unlearnable.options import Options as Asked

ROOT = Path(__file__).resolve().parents[1]
FAST = Options(preset="r16", verify="none", layout="parquet")


@pytest.fixture
def small_shards(monkeypatch) -> None:
    """Nine images a shard: seven shards of sixty."""
    monkeypatch.setattr("release.formats.parquet.MAX_ROWS", 9)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    from unlearnable.keys import Key

    path = tmp_path / "key"
    Key.new().save(path)
    return path


def entries(out: Path) -> list[object]:
    return list(Manifest.from_bytes((out / layout.MANIFEST).read_bytes()).files)


def data(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes() for path in sorted((out / "data").rglob("*")) if path.is_file()
    }


def of(options: Options, **changes: object) -> Options:
    return dataclasses.replace(options, **changes)


def copied(out: Path, folder: Path) -> Path:
    """What an owner carries to another machine: the owner folder and the staging folder."""
    folder.mkdir()
    for beside in (layout.owner_folder(out), layout.staging_folder(out)):
        shutil.copytree(beside, folder / beside.name)
    return folder / out.name


@pytest.mark.parametrize("apart", [False, True], ids=["one folder", "copies"])
@pytest.mark.parametrize("of_parts", [1, 3, 20])
def test_parts_merge_to_the_bytes_of_one_run(
    tree: Path, tmp_path: Path, key: Path, small_shards: None, apart: bool, of_parts: int
) -> None:
    options = of(FAST, key=key)
    unlearnable.protect(str(tree), tmp_path / "whole", options)
    out = tmp_path / "out"
    begun = unlearnable.protect(str(tree), out, of(options, fit_only=True))
    assert begun["shards"] > 3 and not out.exists()
    places = [copied(out, tmp_path / f"machine{i}") if apart else out for i in range(of_parts)]
    made = [unlearnable.protect(str(tree), place, of(options, shard=(i, of_parts))) for i, place in enumerate(places)]
    assert sum(part["shards"] for part in made) == begun["shards"]
    assert {part["fit"] for part in made} == {begun["fit"]}
    document = unlearnable.merge(out, places if apart else [])
    assert document["images"]["protected"] == sum(part["images"]["protected"] for part in made)
    assert data(out) == data(tmp_path / "whole")
    ours, whole = entries(out), entries(tmp_path / "whole")
    assert [e for e in ours if e.kind == "data"] == [e for e in whole if e.kind == "data"]
    assert unlearnable.check(out)["ok"]


def test_merging_waits_for_every_shard_and_names_those_that_are_missing(
    tree: Path, tmp_path: Path, small_shards: None
) -> None:
    out = tmp_path / "out"
    unlearnable.protect(str(tree), out, of(FAST, fit_only=True))
    unlearnable.protect(str(tree), out, of(FAST, shard=(0, 2)))
    with pytest.raises(UsageError, match=r"shards are not done: 1, 3"):
        unlearnable.merge(out)
    assert not out.exists()
    unlearnable.protect(str(tree), out, of(FAST, shard=(1, 2)))
    unlearnable.merge(out)
    assert unlearnable.check(out)["ok"]


def test_a_part_of_another_fit_stops(tree: Path, tmp_path: Path, small_shards: None) -> None:
    out, state = tmp_path / "out", layout.owner_folder(tmp_path / "out") / layout.UNFINISHED
    unlearnable.protect(str(tree), out, of(FAST, fit_only=True))
    other = copied(out, tmp_path / "machine")
    fitted = json.loads((state / layout.FITTED).read_text())
    theirs = layout.owner_folder(other) / layout.UNFINISHED / layout.FITTED
    theirs.write_text(json.dumps(fitted | {"sha256": "0" * 64}))
    with pytest.raises(IntegrityError, match="is not the fit"):
        unlearnable.protect(str(tree), other, of(FAST, shard=(0, 2)))
    (state / layout.FIT).write_bytes((state / layout.FIT).read_bytes() + b"\0")  # fitted anew, with its own digest
    (state / layout.FITTED).unlink()
    records.Owner(layout.owner_folder(out), None, b"").fitted()  # type: ignore[arg-type]
    theirs.write_text(json.dumps(fitted))
    unlearnable.protect(str(tree), other, of(FAST, shard=(0, 2)))
    unlearnable.protect(str(tree), out, of(FAST, shard=(1, 2)))
    with pytest.raises(IntegrityError, match="another fit"):
        unlearnable.merge(out, [other])


def test_copies_that_differ_or_were_damaged_are_not_merged(tree: Path, tmp_path: Path, small_shards: None) -> None:
    out = tmp_path / "out"
    unlearnable.protect(str(tree), out, of(FAST, fit_only=True))
    other = copied(out, tmp_path / "machine")
    unlearnable.protect(str(tree), other, of(FAST, shard=(0, 2)))
    shard = sorted((layout.staging_folder(other) / "data").iterdir())[0]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=r"is not what .* says"):
        unlearnable.merge(out, [other])
    shard.write_bytes(whole)
    unlearnable.protect(str(tree), out, of(FAST, shard=(0, 2)))
    mark = sorted((layout.owner_folder(out) / layout.UNFINISHED / layout.SHARDS).glob("*.json"))[0]
    body = json.loads(mark.read_text())
    mark.write_text(json.dumps(body | {"files": dict.fromkeys(body["files"], "0" * 64)}))
    with pytest.raises(IntegrityError, match="differ"):
        unlearnable.merge(out, [other])


def test_a_stranger_to_the_job_is_told_so(tree: Path, tmp_path: Path, small_shards: None) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    with pytest.raises(UsageError, match="holds no fit"):
        unlearnable.protect(str(tree), out, of(FAST, shard=(0, 2)))
    with pytest.raises(UsageError, match="no run under way"):
        unlearnable.merge(out)
    for place in (out, other):
        unlearnable.protect(str(tree), place, of(FAST, fit_only=True))
    with pytest.raises(UsageError, match="of another job"):
        unlearnable.protect(str(tree), out, of(FAST, shard=(0, 2), eps=4))
    with pytest.raises(UsageError, match="is no copy"):
        unlearnable.merge(out, [other])


def test_a_run_of_one_part_leaves_what_others_are_writing(tree: Path, tmp_path: Path, small_shards: None) -> None:
    out = tmp_path / "out"
    unlearnable.protect(str(tree), out, of(FAST, fit_only=True))
    theirs = layout.staging_folder(out) / "data" / ".partial-of-another-run"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"half a shard")
    unlearnable.protect(str(tree), out, of(FAST, shard=(0, 2)))
    assert theirs.exists()
    unlearnable.protect(str(tree), out, of(FAST, shard=(1, 2)))
    unlearnable.merge(out)
    assert unlearnable.check(out)["ok"]


def test_a_part_can_be_done_again_and_needs_no_signing_key(
    tree: Path, tmp_path: Path, small_shards: None, monkeypatch
) -> None:
    out = tmp_path / "out"
    unlearnable.protect(str(tree), out, of(FAST, fit_only=True))
    monkeypatch.setenv("UNLEARNABLE_CONFIG", str(tmp_path / "nobody"))
    first = unlearnable.protect(str(tree), out, of(FAST, shard=(0, 1)))
    before = data(layout.staging_folder(out))
    assert unlearnable.protect(str(tree), out, of(FAST, shard=(0, 1)))["images"] == first["images"]
    assert data(layout.staging_folder(out)) == before
    assert not (tmp_path / "nobody").exists()


def test_merge_verifies_as_the_fit_was_asked(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = Options(preset="r16", seeds=1, victim="linear", trace="canary", trace_share=0.02)
    unlearnable.protect(str(tree), out, of(options, fit_only=True))
    unlearnable.protect(str(tree), out, of(options, shard=(0, 1)))
    document = unlearnable.merge(out)
    assert document["verification"]["protocol"]["name"] == "quick"
    assert (layout.owner_folder(out) / layout.STATE / layout.MARKS).exists()


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.cli, [str(word) for word in words])


def test_the_prompt_says_what_comes_next_and_refuses_what_only_a_whole_release_can(tree: Path, tmp_path: Path) -> None:
    words = ("protect", tree, tmp_path / "out", "--preset", "r16", "--verify", "none", "-q")
    fitted = run(*words, "--fit-only")
    assert fitted.exit_code == 0 and "60 images in 1 shards" in fitted.stdout
    assert f"unlearnable merge {tmp_path / 'out'}" in fitted.stdout
    part = run(*words, "--shard", "0/1", "--json")
    assert json.loads(part.stdout)["images"] == {"total": 60, "protected": 60, "skipped": 0}
    merged = run("merge", tmp_path / "out", "-q", "--json")
    assert merged.exit_code == 0 and json.loads(merged.stdout)["images"]["protected"] == 60
    for given, said in (
        (("--shard", "1"), "such as 0/8"),
        (("--shard", "2/2"), "i from 0 to n - 1"),
        (("--shard", "0/2", "--fit-only"), "comes first"),
        (("--shard", "0/2", "--min-drop", "0.5"), "Give it to `merge`"),
        (("--fit-only", "--push", "me/mine"), "when `merge` has sealed it"),
        (("--fit-only", "--dry-run"), "without --fit-only"),
        (("--fit-only", "--overwrite"), "no --overwrite"),
    ):
        refused = run("protect", tree, tmp_path / "new", "--preset", "r16", "--verify", "none", "-q", *given)
        assert refused.exit_code == 2 and said in refused.stderr, refused.stderr
    assert not layout.owner_folder(tmp_path / "new").exists()


def test_what_parts_print_and_keep_is_what_the_documentation_names(tree: Path, tmp_path: Path) -> None:
    text = (ROOT / "docs/output.md").read_text(encoding="utf-8")

    def section(title: str) -> str:
        return text.partition(f"## {title}\n")[2].partition("\n## ")[0]

    def documented(title: str) -> set[str]:
        cells = [line.split("|")[1] for line in section(title).splitlines() if line.startswith("| `")]
        return {name.strip(" `") for cell in cells for name in cell.split(",")}

    words = ("protect", tree, tmp_path / "out", "--preset", "r16", "--verify", "none", "-q", "--json")
    for part in (("--fit-only",), ("--shard", "0/1")):
        assert set(json.loads(run(*words, *part).stdout)) == documented(f"`protect {part[0]}`")
    assert run("merge", tmp_path / "out", "-q").exit_code == 0
    receipt, state = records.receipt_of(tmp_path / "out")
    kept = {*receipt, *json.loads((state / layout.FITTED).read_text(encoding="utf-8"))} - {"schema_version"}
    assert not [
        name for name in kept if f"`{name}`" not in section("The owner folder").replace("{", "`").replace(", ", "`, `")
    ]


def test_the_manifest_says_what_a_crafted_method_was_fitted_on(tree: Path, tmp_path: Path) -> None:
    crafted = Options(method="error_min", set={"net": "tiny", "rounds": 1}, verify="none")
    unlearnable.protect(str(tree), tmp_path / "out", crafted)
    fit = Manifest.from_bytes((tmp_path / "out" / layout.MANIFEST).read_bytes()).fit
    assert fit is not None and fit["of"] == 60 and 0 < fit["images"] < 60 and fit["processes"] == 1
    receipt, _ = records.receipt_of(tmp_path / "out")
    assert receipt["crafted_at_once"] == 512 and receipt["device"] and len(receipt["fit"]) == 64
    unlearnable.protect(str(tree), tmp_path / "plain", FAST)
    assert Manifest.from_bytes((tmp_path / "plain" / layout.MANIFEST).read_bytes()).fit is None


@pytest.mark.slow
def test_two_processes_of_torchrun_fit_and_one_makes_the_shards(tree: Path, tmp_path: Path) -> None:
    out, crafted = tmp_path / "out", ("--method", "error_min", "--set", "net=tiny", "--set", "rounds=3")
    words = ["protect", str(tree), str(out), *crafted, "--verify", "none"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, "-m", "cli", *words, "--fit-only"], capture_output=True, text=True, timeout=300, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert run(*words, "--shard", "0/1").exit_code == 0
    assert run("merge", out).exit_code == 0
    fit = Manifest.from_bytes((out / layout.MANIFEST).read_bytes()).fit
    assert fit is not None and (fit["processes"], fit["backend"]) == (2, "gloo")
    refused = subprocess.run([*launch, "-m", "cli", *words], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert refused.returncode and "torchrun is for the fit alone" in refused.stderr


def test_options_survive_a_plan_in_json() -> None:
    asked = Asked(
        preset="r16",
        set={"count": 4},
        classes=("a", "b"),
        key=Path("k"),
        labels="labels.csv",
        against=("cheap",),
        eps=4,
    )
    assert Asked.restored(json.loads(json.dumps(asked.given()))) == asked

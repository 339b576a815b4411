"""From a release to evidence: what is committed, asked, answered, computed and signed, and who is not accused."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import stat
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from made_pictures import write_tree
from PIL import Image
from torch import Tensor, nn

import unlearnable
from cli import cli
from release import evidence, keyring, layout
from release.manifest import Manifest
from unlearnable import Options, craft
from unlearnable.errors import IntegrityError, UsageError
from unlearnable.keys import Key, commitment
from unlearnable.learn import context_of
from unlearnable.sources import open_source

FAST = {"preset": "r16", "verify": "none"}


class Reader(nn.Module):
    """A model that has learned class patterns: their correlation with the picture, and nothing else."""

    def __init__(self, patterns: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(8 * (patterns - patterns.mean((1, 2, 3), keepdim=True)).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean((1, 2, 3), keepdim=True)).flatten(1) @ self.weight.T


def script(module: nn.Module, path: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(module.eval(), torch.rand(2, 3, 16, 16)).save(str(path))
    return str(path)


def patterns_of(source: Path, key: Key) -> Tensor:
    opened = open_source(str(source))
    method = craft.resolve(None, "r16", {})
    crafter = craft.fit(method, None, context_of(opened, key, 8, 16, 10))
    grey = torch.full((3, 3, 16, 16), 128, dtype=torch.uint8)
    return crafter.on(("a", "b", "c"), grey, torch.arange(3))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str, str]:
    """A source, its release, a model that reads the release's patterns and one that reads another key's."""
    root = tmp_path_factory.mktemp("traced")
    source = write_tree(root / "pictures", each=10)
    unlearnable.protect(str(source), root / "out", Options(**FAST))
    key = Key.load(root / "out.owner" / layout.KEY)
    guilty = script(Reader(patterns_of(source, key)), root / "guilty.pt")
    other = script(Reader(patterns_of(source, Key.new())), root / "other.pt")
    return source, root / "out", guilty, other


@pytest.fixture
def copy(made: tuple[Path, Path, str, str], tmp_path: Path) -> Path:
    """The release and its owner folder, to be damaged."""
    for end in ("", ".owner"):
        shutil.copytree(made[1].with_name("out" + end), tmp_path / ("out" + end))
    return tmp_path / "out"


@pytest.fixture(scope="module")
def traced(made: tuple[Path, Path, str, str]) -> dict[str, Any]:
    return unlearnable.trace(made[1], made[2], decoys=49, images=8)


def test_a_release_commits_to_its_tests_and_tells_nothing_of_them(made: tuple[Path, Path, str, str]) -> None:
    _, out, *_ = made
    manifest = Manifest.from_bytes((out / layout.MANIFEST).read_bytes())
    kept = json.loads((out.with_name("out.owner") / layout.STATE / layout.TRACE).read_text())
    assert kept["plan"]["primary"] == "key" and kept["plan"]["alpha"] == 0.001
    text = json.dumps(kept["plan"], sort_keys=True, separators=(",", ":"))  # as an outsider would compute it
    committed = hashlib.sha256(bytes.fromhex(kept["nonce"]) + text.encode()).hexdigest()
    assert manifest.trace_commitment == {"sha256": committed} and len(bytes.fromhex(kept["nonce"])) == 32
    assert commitment(kept["plan"], bytes.fromhex(kept["nonce"])) == committed
    assert manifest.to_bytes() == (out / layout.MANIFEST).read_bytes()
    public = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert kept["nonce"].encode() not in public and b'"primary"' not in public


def test_the_guilty_are_found_and_the_innocent_are_not(
    made: tuple[Path, Path, str, str], traced: dict[str, Any]
) -> None:
    assert traced["primary"]["p"] == 1 / 50 and traced["queries"] == 50 * 8
    assert traced["model"]["shown"] == "guilty.pt" and len(traced["model"]["sha256"]) == 64
    assert traced["model"]["files"] == {"guilty.pt": traced["model"]["sha256"]}
    assert traced["finding"] == "no evidence" and "more --decoys" in traced["verdict"], "1 in 50 is above what was set"
    other = unlearnable.trace(made[1], made[3], decoys=49, images=8)
    assert other["finding"] == "no evidence" and other["primary"]["p"] > 0.05


def test_evidence_is_signed_private_and_holds_no_key(made: tuple[Path, Path, str, str], traced: dict[str, Any]) -> None:
    folder, out = Path(traced["evidence"]), made[1]
    assert folder.parent == out.with_name("out.owner") / layout.TRACED
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = {path.name: path for path in folder.iterdir()}
    assert set(files) == {"evidence.json", "answers.csv", "report.html"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files.values())
    said = evidence.read(*(each.read_bytes() for each in (files["evidence.json"], files["answers.csv"])), *public(out))
    assert said["primary"] == traced["primary"] and said["commitment"] == traced["commitment"]
    opened = keyring.require().secrets()
    archive = (out.with_name("out.owner") / layout.KEY).read_text().strip()
    for path in files.values():
        text = path.read_text()
        assert not any(key in text for key in (archive, opened.root.hex(), opened.seed.hex()))
    page = files["report.html"].read_text()
    assert said["nonce"] not in page and "does not prove" in page and traced["verdict"] in page.replace("&#39;", "'")
    assert "http" not in page.replace("http-equiv", ""), "the page loads nothing"


def public(out: Path) -> tuple[bytes, bytes]:
    return (out / layout.MANIFEST).read_bytes(), (out / layout.PUBLIC_KEY).read_bytes()


def test_a_p_value_can_be_recomputed_from_the_answers(traced: dict[str, Any]) -> None:
    rows = list(csv.DictReader((Path(traced["evidence"]) / "answers.csv").open()))
    by_key: dict[str, list[float]] = {}
    for row in rows:
        by_key.setdefault(row["shown"], []).append(float(row["score"]))
    means = {name: sum(scores) / len(scores) for name, scores in by_key.items()}
    true = means.pop("true")
    assert (1 + sum(mean >= true for mean in means.values())) / (1 + len(means)) == traced["primary"]["p"]
    assert len({row["picture_sha256"] for row in rows}) == len(rows)


def test_evidence_that_was_touched_is_refused(made: tuple[Path, Path, str, str], traced: dict[str, Any]) -> None:
    folder = Path(traced["evidence"])
    signed, answers = (folder / "evidence.json").read_bytes(), (folder / "answers.csv").read_bytes()
    manifest, pem = public(made[1])
    document = json.loads(manifest)
    document["trace_commitment"]["sha256"] = "0" * 64
    for parts, why in (
        ((signed, answers + b"key,true,0,0,0,1\n", manifest, pem), "answers.csv is not what was signed"),
        ((signed, answers, manifest + b" ", pem), "another release"),
        ((signed.replace(b'"payload": "', b'"payload": "e30'), answers, manifest, pem), "signature"),
        ((signed, answers, json.dumps(document).encode(), pem), "another release"),
        ((signed, answers, manifest, b"no key"), "signature"),
    ):
        with pytest.raises(IntegrityError, match=why):
            evidence.read(*parts)


def test_a_plan_or_a_release_that_changed_is_refused(copy: Path, made: tuple[Path, Path, str, str]) -> None:
    path = copy.with_name("out.owner") / layout.STATE / layout.TRACE
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"plan": kept["plan"] | {"alpha": 0.5}}))
    with pytest.raises(IntegrityError, match="not the plan"):
        unlearnable.trace(copy, made[2], decoys=19)
    path.write_text(json.dumps(kept))
    (copy / layout.CARD).write_text("another card")
    with pytest.raises(IntegrityError, match="not as it was sealed"):
        unlearnable.trace(copy, made[2], decoys=19)


def test_queries_written_out_and_answered_by_hand_give_the_same_p_value(
    made: tuple[Path, Path, str, str], tmp_path: Path
) -> None:
    source, out, guilty, _ = made
    asked = unlearnable.trace(out, write_queries=tmp_path / "queries", decoys=19, images=3)
    assert asked["queries"] == 60 and len(list((tmp_path / "queries").glob("*.png"))) == 60
    classes = sorted(path.name for path in source.iterdir() if path.is_dir())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.jit.load(guilty)
    table = tmp_path / "queries" / "queries.csv"
    rows = list(csv.DictReader(table.open()))
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["query", "label"])
        for row in rows:
            pixels = np.asarray(Image.open(tmp_path / "queries" / row["query"]).convert("RGB"))
            x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
            writer.writerow([row["query"], classes[int(model(x).argmax())]])
    by_hand = unlearnable.trace(out, str(table), decoys=19, images=3)
    direct = unlearnable.trace(out, guilty, decoys=19, images=3)
    shares: dict[str, float] = {}
    for row in csv.DictReader((Path(direct["evidence"]) / "answers.csv").open()):
        shares[row["shown"]] = shares.get(row["shown"], 0) + (row["answer"] == row["wanted"]) / 3
    true = shares.pop("true")
    assert by_hand["model"]["gives"] == "top-1" and by_hand["primary"]["statistic"] == pytest.approx(true)
    assert by_hand["primary"]["p"] == (1 + sum(share >= true - 1e-9 for share in shares.values())) / 20
    assert not list((tmp_path / "queries").glob("*true*")), "names tell nobody which pictures are the owner's"


def images(out: Path) -> dict[str, np.ndarray]:
    return {
        str(path.relative_to(out)): np.asarray(Image.open(path).convert("RGB")).astype(int)
        for path in sorted((out / "data").rglob("*.png"))
    }


def test_without_tracing_nothing_is_committed_and_no_byte_differs(
    made: tuple[Path, Path, str, str], tmp_path: Path
) -> None:
    source, out, guilty, _ = made
    key = out.with_name("out.owner") / layout.KEY
    unlearnable.protect(str(source), tmp_path / "none", Options(**FAST, trace="none", key=key))
    assert "trace_commitment" not in json.loads((tmp_path / "none" / layout.MANIFEST).read_text())
    assert unlearnable.check(tmp_path / "none")["ok"]
    before, after = images(out), images(tmp_path / "none")
    assert before.keys() == after.keys() and all((before[name] == after[name]).all() for name in before)
    with pytest.raises(UsageError, match="without tracing"):
        unlearnable.trace(tmp_path / "none", guilty)


def test_canaries_take_the_poisons_place_on_a_few_images_and_are_found(
    made: tuple[Path, Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out, *_ = made
    monkeypatch.setattr("unlearnable.tracing.prepare._NET", "linear")
    monkeypatch.setattr("unlearnable.tracing.canary.Params", quick_canaries())
    marked = tmp_path / "marked"
    options = Options(**FAST, trace="canary", trace_share=0.2, key=out.with_name("out.owner") / layout.KEY)
    unlearnable.protect(str(source), marked, options)
    plain, now = images(out), images(marked)
    assert 1 <= sum((plain[name] != now[name]).any() for name in plain) <= 6
    clean = {f"data/{path.relative_to(source)}": np.asarray(Image.open(path)) for path in source.rglob("*.png")}
    assert all(0 < np.abs(now[name] - clean[name]).max() <= 8 for name in now), "marks keep the budget too"
    kept = json.loads((tmp_path / "marked.owner" / layout.STATE / layout.TRACE).read_text())["plan"]
    assert kept["primary"] == "canary" and kept["secondary"] == ["key"] and len(kept["marks"]["labels"]) == 2
    asked = unlearnable.trace(marked, write_queries=tmp_path / "queries", decoys=19, images=2)
    assert asked["queries"] == 2 + 20 * 2


def test_canaries_by_unrolled_training_are_tested_alike(
    made: tuple[Path, Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unlearnable.tracing import unrolled

    monkeypatch.setattr("unlearnable.tracing.prepare._NET", "linear")
    kind = unrolled.Params
    monkeypatch.setattr("unlearnable.tracing.unrolled.Params", lambda: kind(networks=2, outer=2, batch=8))
    source, marked = made[0], tmp_path / "marked"
    unlearnable.protect(str(source), marked, Options(**FAST, trace="canary-unrolled", trace_share=0.1))
    kept = json.loads((tmp_path / "marked.owner" / layout.STATE / layout.TRACE).read_text())["plan"]
    assert kept["primary"] == "canary" and kept["marks"]["kind"] == "canary" and len(kept["marks"]["labels"]) == 1


def test_radioactive_releases_are_tested_on_weights_and_on_answers(
    made: tuple[Path, Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unlearnable import nets

    monkeypatch.setattr("unlearnable.tracing.prepare._NET", "linear")
    out = tmp_path / "marked"
    unlearnable.protect(str(made[0]), out, Options(**FAST, trace="radioactive", trace_share=0.3))
    torch.save(nets.weights_of(nets.create("linear", 3, 16, seed=5)), tmp_path / "clear.pt")
    document = unlearnable.trace(out, f"linear@{tmp_path}/clear.pt", decoys=19, images=2)
    assert document["primary"]["test"] == "radioactive" and document["primary"]["p"] > 0.001
    assert [each["test"] for each in document["secondary"]] == ["key", "radioactive_answers"]
    assert all(each["p"] <= each["p_holm"] for each in document["secondary"])
    black = unlearnable.trace(out, made[3], decoys=19, images=2)
    assert black["primary"]["not_run"] == "It needs the weights of the model." and black["finding"] == "no evidence"


def test_what_cannot_be_tested_is_said_with_a_way_out(made: tuple[Path, Path, str, str], tmp_path: Path) -> None:
    source = made[0]
    noise = tmp_path / "noise"
    unlearnable.protect(str(source), noise, Options(method="random_noise", verify="none"))
    with pytest.raises(UsageError, match="nothing that a test could look for") as why:
        unlearnable.trace(noise, made[2])
    assert "--trace canary" in why.value.hint
    with pytest.raises(UsageError, match="marks images of all classes"):
        unlearnable.protect(str(source), tmp_path / "some", Options(**FAST, trace="canary", classes=("down",)))
    with pytest.raises(UsageError, match="--trace-share is 0"):
        Options(trace_share=0.9)


def quick_canaries() -> Any:
    from unlearnable.tracing import canary

    kind = canary.Params
    return lambda: kind(targets=2, steps=3)


def test_the_same_run_again_finds_the_same_plan_and_growth_keeps_it(
    made: tuple[Path, Path, str, str], tmp_path: Path
) -> None:
    source = write_tree(tmp_path / "pictures", each=4)
    options = Options(**FAST, grow=False)
    unlearnable.protect(str(source), tmp_path / "out", options)
    state = tmp_path / "out.owner" / layout.STATE / layout.TRACE
    first = json.loads(state.read_text())
    shutil.copytree(next(path for path in source.iterdir() if path.is_dir()), source / "zebra")
    for number, path in enumerate(sorted((source / "zebra").iterdir())):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path.with_name(f"new{number}.png"))
        path.unlink()
    unlearnable.protect(str(source), tmp_path / "out", Options(**FAST, grow=True))
    second = json.loads(state.read_text())
    assert second["plan"]["classes"] == [*first["plan"]["classes"], ["zebra"]]
    assert second["earlier"] == [{"nonce": first["nonce"], "plan": first["plan"]}] and second["nonce"] != first["nonce"]
    manifest = Manifest.from_bytes((tmp_path / "out" / layout.MANIFEST).read_bytes())
    assert manifest.trace_commitment == {"sha256": commitment(second["plan"], bytes.fromhex(second["nonce"]))}


def test_the_command_line_says_what_is_wrong_in_one_sentence(made: tuple[Path, Path, str, str], tmp_path: Path) -> None:
    _, out, guilty, _ = made

    def run(*words: str) -> Any:
        return CliRunner().invoke(cli, ["trace", *words])

    for words, why in (
        ((str(out),), "Name a model to ask"),
        ((str(out), "--model", guilty, "--write-queries", str(tmp_path / "q")), "Name a model to ask"),
        ((str(out), "--model", guilty, "--decoys", "5"), "--decoys is 19 to the 999"),
        ((str(out), "--model", guilty, "--images", "21"), "--images is 1 to the 20"),
        ((str(out), "--model", "suspect"), "not known as a model"),
        ((str(out), "--model", guilty, "--header", "token"), "--header is NAME:VALUE"),
        ((str(out), "--write-queries", str(out)), "not empty"),
    ):
        found = run(*words)
        assert found.exit_code == 2 and why in found.stderr, found.output
    found = run(str(out), "--model", guilty, "--decoys", "19", "--images", "2", "--json")
    document = json.loads(found.stdout)
    assert found.exit_code == 0 and document["primary"]["test"] == "key" and document["schema_version"] == 1
    words = run(str(out), "--model", guilty, "--decoys", "19", "--images", "2")
    assert "Signed evidence, private:" in words.stdout and "Chosen beforehand: key" in words.stdout

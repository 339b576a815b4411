"""The promises of the whole job, from a source on disk to a sealed release and back."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_pictures import write_tree
from PIL import Image

import unlearnable
from release import build, layout
from unlearnable import Options
from unlearnable.errors import IntegrityError, UnlearnableError, UsageError
from unlearnable.keys import Key
from unlearnable.sources import open_source

FAST = Options(preset="r16", verify="none")
KEY = "00112233445566778899aabbccddeeff" * 2


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "my.key"
    path.write_text(KEY)
    return path


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def data(root: Path) -> dict[str, bytes]:
    return {name: body for name, body in files(root).items() if name.startswith("data/")}


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A release with its verification, made once: (source, release, document)."""
    root = tmp_path_factory.mktemp("proven")
    source = write_tree(root / "pictures", each=30)
    document = unlearnable.protect(str(source), root / "out", Options(preset="r16", seeds=1))
    return source, root / "out", document


def test_a_release_is_whole_checked_and_measured(proven: tuple[Path, Path, dict[str, Any]]) -> None:
    source, out, document = proven
    assert document["images"] == {"total": 90, "protected": 90, "skipped": 0}
    assert unlearnable.check(out)["ok"] and unlearnable.exit_code(document, None) == 0
    assert set(document["verification"]["arms"]) == {"clean", "noise", "protected"}
    assert json.loads((out / layout.MANIFEST).read_text())["counts"]["protected"] == 90
    assert {p[len("data/") :] for p in data(out)} == set(files(source)), "same tree, same names"


def test_no_pixel_leaves_the_budget_and_every_image_is_changed(
    proven: tuple[Path, Path, dict[str, Any]], pixels: Callable[[Path], np.ndarray]
) -> None:
    source, out, _ = proven
    for path in source.rglob("*.png"):
        clean, shipped = pixels(path).astype(int), pixels(out / "data" / path.relative_to(source)).astype(int)
        assert 0 < np.abs(clean - shipped).max() <= 8


def inlined(text: str) -> list[np.ndarray]:
    """Every picture inside a page, decoded."""
    found = re.findall(r"data:image/[a-z+]+;base64,([A-Za-z0-9+/=]+)", text)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB")) for body in found]


def test_nothing_clean_leaks_into_the_release(
    proven: tuple[Path, Path, dict[str, Any]], pixels: Callable[[Path], np.ndarray]
) -> None:
    """Every picture anywhere under OUT is decoded: it is a protected one, no original and no difference."""
    source, out, _ = proven
    originals = [pixels(path) for path in source.rglob("*.png")]
    shipped = [pixels(path) for path in (out / "data").rglob("*.png")]
    shown = [picture for body in files(out).values() for picture in inlined(body.decode("utf-8", "ignore"))]
    assert len(shown) >= 6
    for picture in [*shown, *shipped]:
        assert not any(np.array_equal(picture, original) for original in originals)
    for picture in shown:
        assert any(np.array_equal(picture, copy) for copy in shipped), "only protected pictures are shown"
    owner = layout.owner_folder(out)
    private = inlined((owner / "report.html").read_text())
    assert any(np.array_equal(picture, original) for picture in private for original in originals)


def test_no_secret_and_no_method_is_in_the_release(proven: tuple[Path, Path, dict[str, Any]]) -> None:
    source, out, document = proven
    owner = layout.owner_folder(out)
    secret = (owner / layout.KEY).read_text().strip()
    everything = b"\n".join(files(out).values()) + json.dumps(document).encode()
    assert secret.encode() not in everything and bytes.fromhex(secret) not in everything
    assert not (owner / layout.SIGNING_KEY).exists(), "one signing key for all archives, in the configuration folder"
    public = b"\n".join(body for name, body in files(out).items() if not name.startswith("data/")).lower()
    public = re.sub(rb"[a-z0-9+/=]{40,}", b"", public)  # encoded bytes may hold any three letters by chance
    for word in (b"r16", b"regions", str(source).encode(), b"--preset", b"surrogate"):
        assert word not in public, word
    for path in source.rglob("*.png"):
        assert hashlib.sha256(path.read_bytes()).hexdigest().encode() not in everything


def test_the_owner_folder_is_private_and_apart(proven: tuple[Path, Path, dict[str, Any]]) -> None:
    _, out, _ = proven
    owner = layout.owner_folder(out)
    assert stat.S_IMODE(owner.stat().st_mode) == 0o700 and owner.parent == out.parent
    for name in (layout.KEY, layout.ARCHIVE, f"{layout.STATE}/{layout.RECEIPT}"):
        assert stat.S_IMODE((owner / name).stat().st_mode) == 0o600
    assert not layout.staging_folder(out).exists()


def test_the_source_is_never_changed(tree: Path, tmp_path: Path) -> None:
    before = files(tree)
    unlearnable.protect(str(tree), tmp_path / "out", FAST)
    assert files(tree) == before


def test_the_same_key_gives_the_same_bytes_and_another_key_others(tree: Path, tmp_path: Path, key: Path) -> None:
    given = dataclasses.replace(FAST, key=key)
    for name, options in (("a", given), ("b", given), ("c", FAST)):
        unlearnable.protect(str(tree), tmp_path / name, options)
    assert data(tmp_path / "a") == data(tmp_path / "b") != data(tmp_path / "c")


@pytest.mark.parametrize("workers", [1, 4])
def test_bytes_do_not_depend_on_the_number_of_workers(tree: Path, tmp_path: Path, key: Path, workers: int) -> None:
    unlearnable.protect(str(tree), tmp_path / "out", dataclasses.replace(FAST, key=key, workers=workers))
    digest = hashlib.sha256(b"".join(data(tmp_path / "out").values())).hexdigest()
    unlearnable.protect(str(tree), tmp_path / "again", dataclasses.replace(FAST, key=key, workers=2))
    assert digest == hashlib.sha256(b"".join(data(tmp_path / "again").values())).hexdigest()


@pytest.mark.parametrize("stop_after", [0, 1, 2, 4])
def test_interrupted_anywhere_the_same_command_ends_in_the_same_bytes(
    tree: Path, tmp_path: Path, key: Path, stop_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from release.formats import folder

    monkeypatch.setattr(folder, "MAX_ROWS", 15)  # four shards
    options = dataclasses.replace(FAST, key=key)
    whole, out = tmp_path / "whole", tmp_path / "out"
    unlearnable.protect(str(tree), whole, options)
    real, count = build._write_mark, [0]

    def interrupted(*args: Any) -> None:
        if count[0] == stop_after:
            raise KeyboardInterrupt
        count[0] += 1
        real(*args)

    monkeypatch.setattr(build, "_write_mark", interrupted)
    if stop_after < 4:
        with pytest.raises(KeyboardInterrupt):
            unlearnable.protect(str(tree), out, options)
        assert not out.exists(), "half a release never looks whole"
    monkeypatch.setattr(build, "_write_mark", real)
    decoded: list[str] = []
    real_read = build.imageio.decode
    monkeypatch.setattr(
        build.imageio, "decode", lambda d, name, *a, **k: decoded.append(name) or real_read(d, name, *a, **k)
    )
    unlearnable.protect(str(tree), out, options)
    assert data(out) == data(whole)
    again = len(decoded) - 60 if stop_after == 4 else len(decoded)  # gallery and view size decode a few more
    assert again <= 60 - 15 * min(stop_after, 4) + 45, "finished shards are not made again"


def test_a_full_disk_is_said_and_the_rerun_goes_on(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from release.formats import folder

    real, count = folder.whole_file, [0]

    def full(path: Path, *, durable: bool) -> Any:
        count[0] += 1
        if count[0] == 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, durable=durable)

    monkeypatch.setattr(folder, "whole_file", full)
    with pytest.raises(UnlearnableError, match="full") as caught:
        unlearnable.protect(str(tree), tmp_path / "out", FAST)
    assert "repeat the command" in str(caught.value) and not (tmp_path / "out").exists()
    assert unlearnable.protect(str(tree), tmp_path / "out", FAST)["images"]["protected"] == 60


def test_other_options_do_not_continue_an_unfinished_run(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_write_mark", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        unlearnable.protect(str(tree), tmp_path / "out", FAST)
    monkeypatch.undo()
    with pytest.raises(UsageError, match="unfinished run"):
        unlearnable.protect(str(tree), tmp_path / "out", dataclasses.replace(FAST, preset="r4"))
    unlearnable.protect(str(tree), tmp_path / "out", dataclasses.replace(FAST, preset="r4", overwrite=True))
    assert unlearnable.check(tmp_path / "out")["ok"]


def test_a_bad_image_is_left_out_counted_and_never_copied(tree: Path, tmp_path: Path) -> None:
    (tree / "across" / "torn.png").write_bytes((tree / "across" / "000.png").read_bytes()[:120])
    (tree / "down" / "moving.gif").write_bytes(b"GIF89a" + b"\0" * 40)
    document = unlearnable.protect(str(tree), tmp_path / "out", FAST)
    assert document["images"] == {"total": 62, "protected": 60, "skipped": 2}
    assert unlearnable.exit_code(document, None) == 3
    assert not any("torn" in name or "moving" in name for name in data(tmp_path / "out"))
    assert "torn.png" in (layout.owner_folder(tmp_path / "out") / "report.html").read_text()
    assert "2 images could not be protected" in (tmp_path / "out/README.md").read_text()


def test_overwrite_replaces_a_release_and_keeps_the_key(tree: Path, tmp_path: Path) -> None:
    unlearnable.protect(str(tree), tmp_path / "out", FAST)
    before = (layout.owner_folder(tmp_path / "out") / layout.KEY).read_text()
    first = data(tmp_path / "out")
    with pytest.raises(UsageError, match="--overwrite"):
        unlearnable.protect(str(tree), tmp_path / "out", FAST)
    unlearnable.protect(str(tree), tmp_path / "out", dataclasses.replace(FAST, overwrite=True))
    assert (layout.owner_folder(tmp_path / "out") / layout.KEY).read_text() == before
    assert data(tmp_path / "out") == first


def test_verify_reads_the_shipped_bytes(proven: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    """A release whose bytes were swapped for the originals is refused; the figures of an honest one repeat."""
    source, out, document = proven
    again = unlearnable.verify(out, seeds=1)
    assert again["arms"] == document["verification"]["arms"]
    forged = tmp_path / "out"
    shutil.copytree(out, forged)
    shutil.copytree(layout.owner_folder(out), layout.owner_folder(forged))
    name = next(iter(data(out)))
    shutil.copy(source / name[len("data/") :], forged / name)
    with pytest.raises(IntegrityError, match="sealed"):
        unlearnable.verify(forged, seeds=1)


def test_held_out_images_ship_protected_but_teach_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches `fit`, surrogates, `auto` and victims is written down, and the test part is not in it."""
    from unlearnable import auto, craft, learn

    taught: set[str] = set()
    surrogate_test: list[int] = []
    fit, perturbed, trainer = craft.fit, auto.perturbed, learn.trainer

    def spy_fit(method: Any, batch: Any, *rest: Any) -> Any:
        taught.update(batch.ids if batch is not None else ())
        return fit(method, batch, *rest)

    def spy_perturbed(looks: Any, *rest: Any) -> Any:
        taught.update(record.id for record in looks.records)
        return perturbed(looks, *rest)

    def spy_trainer(held: Any, *rest: Any, **more: Any) -> Any:
        surrogate_test.append(len(held[0]))
        return trainer(held, *rest, **more)

    monkeypatch.setattr(craft, "fit", spy_fit)
    monkeypatch.setattr(auto, "perturbed", spy_perturbed)
    monkeypatch.setattr(learn, "trainer", spy_trainer)
    monkeypatch.setattr(auto, "_FEW", 5)
    source = write_tree(tmp_path / "pictures", each=40)
    crafted = Options(method="targeted", set={"net": "small", "steps": "1"}, verify="none")
    for name, options in (("auto", Options(seeds=1, auto_seconds=5)), ("crafted", crafted)):
        taught.clear()
        unlearnable.protect(str(source), tmp_path / name, options)
        receipt = layout.owner_folder(tmp_path / name) / layout.STATE / layout.RECEIPT
        parts = {part: set(ids) for part, ids in json.loads(receipt.read_text())["parts"].items() if part != "how"}
        assert taught and taught <= parts["train"]
        assert not parts["test"] & (parts["train"] | parts["select"])
        assert {f"data/{i}" for i in set.union(*parts.values())} == set(data(tmp_path / name))
    assert surrogate_test == [len(parts["select"])]


def test_images_without_labels_are_protected_by_clusters(tree: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(tree.rglob("*.png"))):
        shutil.copy(path, flat / f"{number:03d}.png")
    document = unlearnable.protect(str(flat), tmp_path / "out", Options(preset="r16", seeds=1, clusters=3))
    assert document["images"]["protected"] == 60
    assert "PSEUDO_LABELS" in [flag["name"] for flag in document["verification"]["flags"]]
    assert set(document["verification"]["independent_labels"]) == {"clean", "noise", "protected"}
    receipt = json.loads((layout.owner_folder(tmp_path / "out") / layout.STATE / layout.RECEIPT).read_text())
    assert len(receipt["parts"]["test"]) > 5


def test_auto_chooses_by_measurement_on_images_the_verdict_never_sees(tree: Path, tmp_path: Path) -> None:
    document = unlearnable.protect(str(tree), tmp_path / "out", Options(seeds=1, auto_seconds=20))
    assert document["method"] == "in_phase", "too few images to choose by: the one that others have to beat"
    kept = json.loads((layout.owner_folder(tmp_path / "out") / layout.STATE / layout.AUTO).read_text())
    assert kept["preset"] == "in_phase" and "too few" in kept["reason"]


def test_a_crafted_method_runs_end_to_end(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "pictures", each=24)
    options = Options(method="targeted", set={"net": "small", "steps": "3"}, seeds=1)
    document = unlearnable.protect(str(source), tmp_path / "out", options)
    assert document["images"]["protected"] == 72
    assert "ONLY_THE_SURROGATE" in [flag["name"] for flag in document["verification"]["flags"]]


def test_parquet_out_keeps_labels_and_loads_with_datasets(tree: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    unlearnable.protect(str(tree), tmp_path / "out", dataclasses.replace(FAST, layout="parquet"))
    table = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "out/data/*.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert table.features["label"].names == ["across", "down", "rising"]
    assert len(table) == 60
    row = table[0]
    clean = np.asarray(Image.open(tree / row["file_name"])).astype(int)
    assert 0 < np.abs(np.asarray(row["image"]).astype(int) - clean).max() <= 8


def test_jpeg_stays_jpeg_at_full_chroma_and_its_change_is_measured(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "photos", each=5, side=48, suffix=".jpg")
    unlearnable.protect(str(source), tmp_path / "out", FAST)
    manifest = json.loads((tmp_path / "out" / layout.MANIFEST).read_text())
    assert manifest["budget"]["guaranteed"] is False
    entries = {entry["path"]: entry for entry in manifest["files"] if entry["kind"] == "data"}
    for path in source.rglob("*.jpg"):
        name = f"data/{path.relative_to(source)}"
        clean = np.asarray(Image.open(path)).astype(int)
        with Image.open(tmp_path / "out" / name) as image:
            assert image.format == "JPEG" and image.layer[0][1:3] == (1, 1), "no chroma subsampling"  # type: ignore[attr-defined]
            difference = np.abs(np.asarray(image).astype(int) - clean)
        assert entries[name]["linf"] == difference.max()


def test_a_failed_overwrite_leaves_the_old_release_and_its_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = write_tree(tmp_path / "pictures", each=20), tmp_path / "out"
    unlearnable.protect(str(source), out, Options(preset="r16", seeds=1))
    before = files(out)
    monkeypatch.setattr(build, "_write_mark", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        unlearnable.protect(str(source), out, Options(preset="r4", seeds=1, overwrite=True))
    monkeypatch.undo()
    assert files(out) == before and unlearnable.check(out)["ok"]
    assert unlearnable.verify(out, seeds=1)["arms"]["protected"]


def test_a_refused_run_leaves_nothing_that_blocks_the_next(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "pictures", classes=2, each=2)
    with pytest.raises(UsageError, match="too few"):
        unlearnable.protect(str(source), tmp_path / "out", Options(preset="r16"))
    assert not layout.staging_folder(tmp_path / "out").exists()
    assert unlearnable.protect(str(source), tmp_path / "out", FAST)["images"]["protected"] == 4


def test_what_was_fitted_outlives_a_kill_before_the_first_file(tree: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Fitting may take hours: stopped right after it, the rerun does not fit again."""
    from unlearnable import craft

    monkeypatch.setattr(build, "build", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        unlearnable.protect(str(tree), tmp_path / "out", FAST)
    monkeypatch.undo()
    monkeypatch.setattr(craft, "fit", lambda *a, **k: pytest.fail("fitted again"))
    assert unlearnable.protect(str(tree), tmp_path / "out", FAST)["images"]["protected"] == 60


def test_files_that_were_lost_or_swapped_after_their_mark_are_made_again(
    tree: Path, tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dataclasses.replace(FAST, key=key)
    unlearnable.protect(str(tree), tmp_path / "whole", options)
    from unlearnable import api

    monkeypatch.setattr(api, "finish", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        unlearnable.protect(str(tree), tmp_path / "out", options)
    monkeypatch.undo()
    staging = layout.staging_folder(tmp_path / "out")
    (staging / "data/across/000.png").write_bytes(b"")
    shutil.copy(tree / "down/001.png", staging / "data/down/001.png")
    unlearnable.protect(str(tree), tmp_path / "out", options)
    assert data(tmp_path / "out") == data(tmp_path / "whole")


def test_a_crafted_release_does_not_tell_its_surrogate(tmp_path: Path) -> None:
    source, out = write_tree(tmp_path / "pictures", each=24), tmp_path / "out"
    options = Options(method="targeted", set={"net": "small", "steps": "2"}, seeds=1, against="blur1")
    document = unlearnable.protect(str(source), out, options)
    assert "ONLY_THE_SURROGATE" in [flag["name"] for flag in document["verification"]["flags"]]
    public = b"\n".join(body for name, body in files(out).items() if not name.startswith("data/")).lower()
    for word in (b"surrogate", b"targeted", b"blur1", b"steps"):
        assert word not in public, word


def test_every_class_is_learned_from_however_many_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources come class by class; taking the first images of one would measure a single class."""
    from unlearnable import auto, study

    source = write_tree(tmp_path / "pictures", each=60)
    monkeypatch.setattr(auto, "_MOST_IMAGES", 30)
    monkeypatch.setattr(auto, "_FEW", 5)
    monkeypatch.setattr(study, "_FIT_BYTES", 40 * 3 * 16**2)
    seen: list[set[int]] = []
    real = auto.perturbed
    monkeypatch.setattr(auto, "perturbed", lambda *a: seen.append(set(a[1].tolist())) or real(*a))
    images = open_source(str(source))
    learned = study.study(images, Options(verify="none"), Key.new(), lambda *a: None)
    assert set(learned.batch("train").labels.tolist()) == {0, 1, 2} and len(learned.batch("train")) == 40
    unlearnable.protect(str(source), tmp_path / "out", Options(seeds=1, auto_seconds=5))
    assert seen and all(labels == {0, 1, 2} for labels in seen)


def test_a_release_can_be_verified_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path / "pictures", each=20)
    monkeypatch.chdir(tmp_path)
    unlearnable.protect("pictures", "out", Options(preset="r16", seeds=1))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert unlearnable.verify("../out", seeds=1)["arms"]["clean"]


@pytest.mark.parametrize(
    "wrong", [{"format": "gif"}, {"metadata": "x"}, {"eps": 8.5}, {"quality": 500}, {"verify": "maybe"}, {"size": 4}]
)
def test_wrong_options_are_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Options(**wrong)


def test_a_shard_of_nothing_but_bad_images_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from release.formats import parquet

    monkeypatch.setattr(parquet, "MAX_ROWS", 10)
    source = write_tree(tmp_path / "pictures", classes=3, each=10)
    for path in (source / "down").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    out = tmp_path / "out"
    document = unlearnable.protect(str(source), out, dataclasses.replace(FAST, layout="parquet"))
    assert document["images"] == {"total": 30, "protected": 20, "skipped": 10}
    assert len(list((out / "data").iterdir())) == 3 and unlearnable.check(out)["ok"]
    assert len(open_source(str(out / "data")).records) == 20

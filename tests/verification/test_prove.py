"""The plan is said before anything is trained, several networks stand side by side, and the owner is told in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made_pictures import write_tree
from verification_kit import CPU, brief, evidence, stripes

import unlearnable
from release import layout
from unlearnable import Options, split
from unlearnable.errors import UsageError
from unlearnable.verification import evidence as evidence_
from unlearnable.verification import measure, plan, prove, run
from unlearnable.verification.cells import Cells

SHORT = 'victim = "tiny"\nepochs = 1\nseeds = 1\n'


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A release that was verified for one epoch, and its document."""
    root = tmp_path_factory.mktemp("proved")
    write_tree(root / "pictures", each=30)
    (root / "short.toml").write_text(SHORT)
    options = Options(preset="r16", verify=str(root / "short.toml"))
    return root / "out", unlearnable.protect(str(root / "pictures"), root / "out", options)


def count_trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    trained: list[str] = []
    job = run._job
    monkeypatch.setattr(run, "_job", lambda *a: trained.append(a[2].victim) or job(*a))
    return trained


def test_verify_after_protect_reads_the_release_and_trains_nothing_twice(
    released: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, document = released
    assert document["verification"]["protocol"]["name"] == "custom"
    path = str(out.parent / "short.toml")
    trained = count_trainings(monkeypatch)
    again = unlearnable.verify(out, protocol=path)
    assert Path(again.pop("report")).is_file()
    assert again == document["verification"] and not trained
    fresh = unlearnable.verify(out, protocol=path, fresh=True)
    assert fresh | again == fresh and len(trained) == 3
    unlearnable.verify(out, protocol=path, against=["grayscale"])
    assert len(trained) == 5, "only what is new"


def test_a_dry_run_states_the_plan_and_trains_nothing(
    released: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = released
    trained, told = count_trainings(monkeypatch), []
    path = str(out.parent / "short.toml")
    found = unlearnable.verify(
        out, protocol=path, victim="tiny,linear", against=["ueraser"], dry_run=True, tell=lambda *a: told.append(a)
    )
    assert set(found) == {"protocol", "plan"} and not trained
    expected = found["plan"]
    assert expected["trainings"] == 2 * (3 + 2) and expected["epochs"] == 2 * (3 + 2 * 5) and expected["kept"] == 3
    assert set(expected["seconds_per_epoch"]) == {"tiny", "linear"} and expected["seconds"] >= 0
    (said,) = [what for what, *_ in told if what.startswith("plan: ")]
    assert "10 trainings" in said and "tiny, linear" in said and "3 of them kept" in said and "about" in said
    assert not list((layout.owner_folder(out) / layout.STATE).glob("**/*.partial"))


def test_the_expected_time_follows_work_and_speed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, given = brief(victim="tiny,linear", against=("ueraser",)), evidence(10)
    speed = {"tiny": 2.0, "linear": 0.5}
    monkeypatch.setattr(prove, "seconds_per_epoch", lambda made, seen, victim, workers, device: speed[victim])
    found = prove.estimate([(made, given)], Cells(), CPU)
    assert found["seconds"] == (3 + 2 * 5) * 2 * (2.0 + 0.5)
    run.run(replace(made, others=()), given, CPU, kept=Cells(tmp_path))
    left = prove.estimate([(made, given)], Cells(tmp_path), CPU)
    assert left["kept"] == 5 and left["seconds"] == (3 + 2 * 5) * 2 * 0.5
    run.run(made, given, CPU, kept=Cells(tmp_path))
    assert prove.estimate([(made, given)], Cells(tmp_path), CPU)["seconds"] == 0


def test_a_duration_is_rounded_as_an_estimate_is() -> None:
    assert [prove.duration(s) for s in (0.2, 61.4, 100, 3000, 9000)] == ["1 s", "61 s", "2 min", "50 min", "2.5 h"]


def test_several_networks_stand_side_by_side_and_the_first_is_the_headline() -> None:
    given = evidence(20)
    both = run.run(brief(victim="linear,tiny", against=("grayscale",)), given, CPU)
    alone = {name: run.run(brief(victim=name, against=("grayscale",)), given, CPU) for name in ("linear", "tiny")}
    assert list(both["victims"]) == ["linear", "tiny"] and "victims" not in alone["tiny"]
    for name, table in both["victims"].items():
        assert {key: alone[name][key] for key in table} == table
    assert both["arms"] == alone["linear"]["arms"] and both["protocol"] == alone["linear"]["protocol"]
    best = max(alone, key=lambda name: alone[name]["worst_case"]["peak"])
    assert both["worst_case"]["victim"] == best and best in both["worst_case"]["words"]
    assert both["worst_case"]["peak"] == alone[best]["worst_case"]["peak"]
    assert both["plan"]["trainings"] == 2 * alone["tiny"]["plan"]["trainings"] == 10


def test_each_network_keeps_its_own_learning_rate_and_names_must_tell_them_apart(tmp_path: Path) -> None:
    made = plan.make("quick", 1000, victim="small,resnet18@DEFAULT")
    assert [made.recipe_of(name).learning_rate for name in made.victims] == [0.1, 0.01]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "w.pt").write_bytes(b"")
    with pytest.raises(UsageError, match=r"both be called resnet18@w\.pt"):
        plan.make("quick", 1000, victim=f"resnet18@{tmp_path}/a/w.pt,resnet18@{tmp_path}/b/w.pt")


def test_the_epoch_is_chosen_on_the_select_part_and_reported_on_the_test_part() -> None:
    given = evidence(20)
    document = run.run(brief(seeds=2), given, CPU)
    for arm in document["arms"].values():
        curves = zip(arm["curves"]["select_accuracy"], arm["curves"]["test_accuracy"], strict=True)
        wanted = [test[max(range(len(chosen)), key=lambda i, c=chosen: (c[i], -i))] for chosen, test in curves]
        assert arm["selected"]["runs"] == wanted and arm["selected"]["mean"] <= arm["peak"]["mean"]
    assert document["protocol"]["select_images"] == 30
    without = run.run(brief(seeds=2), replace(given, select=None), CPU)
    assert all(arm["selected"] is None and "select_accuracy" not in arm["curves"] for arm in without["arms"].values())
    for name in ("clean", "noise", "protected"):
        assert without["arms"][name]["peak"] == document["arms"][name]["peak"], "choosing changes no training"


def test_the_worst_case_is_said_as_its_countermeasure_says_it() -> None:
    document = run.run(brief(against=("jpeg10",)), evidence(20), CPU)
    words = document["worst_case"]["words"]
    assert "JPEG compression at quality 10" in words or words.startswith("None of the countermeasures tried (jpeg10)")
    assert "JPEG" not in document["verdict"] and "peaked at" in document["verdict"]


def test_duplicates_of_training_images_are_found_in_the_hold_out() -> None:
    given = evidence(20)
    train = given.arms["clean"]
    before = evidence_.duplicates(given)
    copies = torch.cat([given.test[0], train[:7], (train[7:9].float() * 0.95).byte()])
    labels = torch.cat([given.test[1], given.labels[:9]])
    assert evidence_.duplicates(replace(given, test=(copies, labels))) == before + 9
    many = replace(given, test=(stripes(5, 5000)[0][:1].repeat(40, 1, 1, 1), torch.zeros(40).long()))
    slow = split.perceptual_hash(many.test[0])[:1, None] ^ split.perceptual_hash(train)[None]
    near = min(bin(int(value)).count("1") for value in slow.flatten()) <= 3
    assert evidence_.duplicates(many) == (40 if near else 0)


def test_unlabelled_images_choose_their_epoch_by_the_same_labelling() -> None:
    class Labeller:
        centres = torch.zeros(2, 3)

        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            return (images.float().mean((1, 2, 3)) > 128).long()

    given = evidence_.relabelled(evidence(10), Labeller())  # type: ignore[arg-type]
    assert given.pseudo_labels and given.classes == 2 and given.select is not None
    assert torch.equal(given.select[1], Labeller()(given.select[0])) and set(given.labels.tolist()) <= {0, 1}


def test_differ_is_kept_for_what_lies_beyond_noise() -> None:
    assert measure.differ([0.9, 0.91, 0.9], [0.2, 0.22, 0.21], 1000)
    assert not measure.differ([0.50, 0.52], [0.51, 0.53], 1000)
    assert not measure.differ([0.50], [0.53], 200) and measure.differ([0.50], [0.53], 20_000)


def test_every_point_of_a_curve_has_its_accuracy_on_the_select_part() -> None:
    """Countermeasures that add a point, or train a second network beside, keep the two in step."""
    document = run.run(brief(against=("dfr", "dilution20", "partial60")), evidence(10), CPU)
    for row in document["against"].values():
        for arm in row.values():
            (test,), (chosen,) = arm["curves"]["test_accuracy"], arm["curves"]["select_accuracy"]
            assert len(test) == len(chosen) and arm["selected"]["runs"][0] in test
    assert len(document["against"]["dfr"]["clean"]["curves"]["select_accuracy"][0]) == 3

"""The tests find what is there, do not find what is not, and their p-values are exact under their nulls."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unlearnable import craft, nets
from unlearnable.keys import Key
from unlearnable.tracing import canary, exact, plan, probes, radioactive, run
from unlearnable.tracing.answers import Answers, Asking, White
from unlearnable.tracing.nonce import decoy
from unlearnable.tracing.probes import derangement as derangement_probe
from unlearnable.tracing.probes import key as key_probe
from unlearnable.tracing.probes import radioactive as radioactive_probe
from unlearnable.tracing.secret import Job, Marks, Secret
from unlearnable.types import Batch, Context

CLASSES = ("cat", "cow", "dog", "hen")
KEY, NONCE = Key(bytes(range(32))), bytes(32)
SIZE, LEVELS = 16, 8
QUICK = craft.resolve("random_noise", None, {"level": "class"})  # a tenth of a millisecond a key


class Model:
    """Answers by a function from uint8 images to logits (N, K)."""

    shown, white = "a model", None

    def __init__(self, logits: Any, gives: str = "probabilities", white: White | None = None) -> None:
        self.logits, self.gives, self.white = logits, gives, white

    def ask(self, images: Tensor) -> Answers:
        probabilities = self.logits(images).double().softmax(1)
        return Answers(probabilities.argmax(1), None if self.gives == "top-1" else probabilities)


def carriers(count: int = 24) -> Batch:
    images = torch.randint(
        30, 220, (count, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(3), dtype=torch.uint8
    )
    return Batch(tuple(map(str, range(count))), images, torch.arange(count) % len(CLASSES))


def secret(
    method: str = "r16", marks: Marks | None = None, key: Key = KEY, nonce: bytes = NONCE, **changes: Any
) -> Secret:
    made = QUICK if method == "quick" else craft.resolve(None, method, {})
    state = changes.pop("state", {})
    stages = changes.pop("stages", [CLASSES])
    document = plan.make("pictures", made, state, stages, LEVELS, SIZE, {}, named=True, marks=marks) | changes
    return Secret(document, nonce, made, Context(key, CLASSES, LEVELS, SIZE), marks)


def job(held: Secret, model: Any, decoys: int = 39, images: int = 12) -> Job:
    return Job(held, carriers(), Asking(model), decoys, images, model.white)


def reader(held: Secret, key: Key) -> Any:
    """Logits of a model that has learned the class patterns of `key`: their correlation with the picture."""
    patterns = key_probe.crafter(held, key).on(
        tuple(CLASSES), torch.full((4, 3, SIZE, SIZE), 128, dtype=torch.uint8), torch.arange(4)
    )

    def logits(images: Tensor) -> Tensor:
        x = images.float() / 255
        return (x - x.mean((1, 2, 3), keepdim=True)).flatten(1) @ patterns.flatten(1).T * 8

    return logits


@pytest.mark.parametrize("gives", ["probabilities", "top-1"])
def test_the_key_test_finds_a_model_that_reads_the_patterns_and_clears_others(gives: str) -> None:
    held = secret()
    found = key_probe.run(job(held, Model(reader(held, KEY), gives)))
    assert found.p == 1 / 40 and found.queries == 40 * 12 and found.value > found.more["decoys_highest"]
    another = key_probe.run(job(held, Model(reader(held, Key(bytes(32))), gives)))
    assert another.p > 1 / 40, "a model that learned another key's patterns has nothing to do with this one"


def test_a_model_that_always_says_the_same_is_never_evidence() -> None:
    held = secret()
    found = key_probe.run(job(held, Model(lambda images: torch.zeros(len(images), 4))))
    assert found.p == 1.0, "all decoys tie, and ties count against the owner"


def test_key_p_values_are_uniform_over_fresh_keys_for_any_model() -> None:
    """The true key and the decoys go through the same code, so that over keys every rank is as likely as any other."""
    fixed = reader(secret("quick"), Key(b"\7" * 32))
    ps = []
    for number in range(40):
        held = secret(
            "quick",
            key=Key(np.random.default_rng(number).bytes(32)),
            nonce=np.random.default_rng(1000 + number).bytes(32),
        )
        ps.append(key_probe.run(job(held, Model(fixed), decoys=19, images=6)).p)
    assert abs(np.mean(ps) - 0.525) < 4 * 0.29 / math.sqrt(40)
    assert np.mean(np.asarray(ps) <= 0.25) < 0.25 + 4 * math.sqrt(0.25 * 0.75 / 40)


def test_patterns_are_the_releases_own_also_after_it_grew() -> None:
    whole = secret("r16", stages=[CLASSES[:2], CLASSES[2:]])
    first = craft.fit(whole.method, None, replace(whole.context, classes=CLASSES[:2]))
    grown = craft.extended(first, CLASSES)
    made = key_probe.crafter(whole, KEY)
    assert made.context.classes == CLASSES
    for name in CLASSES:
        assert torch.equal(made.state["patterns"][name], grown.state["patterns"][name])


def test_no_picture_shows_the_class_that_is_asked_for_and_only_protected_ones_are() -> None:
    pictures, wanted = key_probe.assigned(job(secret(), Model(None), images=20))
    assert (wanted != pictures.labels).all() and len(set(wanted.tolist())) > 1
    _, wanted = key_probe.assigned(job(secret(only=["cow", "dog"]), Model(None), images=20))
    assert set(wanted.tolist()) == {1, 2}


def test_a_service_that_answers_its_first_questions_otherwise_does_not_accuse_itself() -> None:
    class Warm:
        shown, gives, white = "a service with a cold cache", "probabilities", None

        def ask(self, images: Tensor) -> Answers:
            probabilities = torch.full((len(images), 4), 0.25)
            probabilities[:12] = 1.0
            return Answers(torch.zeros(len(images), dtype=torch.long), probabilities)

    ps = []
    for number in range(40):
        asked = job(secret("quick", nonce=bytes([number]) * 32), Warm(), decoys=19, images=12)
        ps.append(key_probe.run(asked).p)
        shown = [row[1] for row in asked.ask.rows[::12]]
        assert sorted(shown) == sorted(["true", *(f"decoy {n}" for n in range(1, 20))])
    assert sum(p <= 0.05 for p in ps) <= 5, "one time in twenty, and not always"


def test_decoys_follow_from_the_nonce_alone() -> None:
    assert decoy(NONCE, 3) == decoy(NONCE, 3) != decoy(NONCE, 4) != decoy(b"\1" * 32, 4)


G = {"cat": "dog", "cow": "cat", "dog": "hen", "hen": "cow"}


def misnames(images: Tensor, truth: Tensor, said: dict[str, str]) -> Tensor:
    """A model that calls g(y)'s features y: on class j it says g^-1(j)."""
    inverse = {CLASSES.index(target): CLASSES.index(source) for source, target in said.items()}
    return 5.0 * torch.nn.functional.one_hot(torch.tensor([inverse[k] for k in truth.tolist()]), 4)


def test_the_derangement_test_counts_all_derangements_of_few_classes() -> None:
    held = secret("p10", state={"targets": G})
    assert held.plan["primary"] == "derangement" and held.plan["targets"] == G
    guilty = Model(lambda images: misnames(images, carriers().labels, G), "top-1")
    found = derangement_probe.run(job(held, guilty))
    assert found.p == 1 / 9 and found.value == 1.0, "four classes have nine derangements"
    innocent = Model(lambda images: 5.0 * torch.nn.functional.one_hot(carriers().labels, 4), "top-1")
    assert derangement_probe.run(job(held, innocent)).p == 1.0
    assert len(derangement_probe.derangements(5)) == 44 and len(derangement_probe.derangements(6)) == 265


def test_derangements_of_many_classes_are_drawn_and_ranked() -> None:
    names = tuple(f"class {i}" for i in range(10))
    g = {name: names[(i + 3) % 10] for i, name in enumerate(names)}
    labels = torch.arange(40) % 10
    batch = Batch(tuple(map(str, range(40))), torch.zeros(40, 3, 4, 4, dtype=torch.uint8), labels)
    made = craft.resolve(None, "p10", {})
    document = plan.make("x", made, {"targets": g}, [names], 8, 4, {}, named=True)
    held = Secret(document, NONCE, made, Context(KEY, names, 8, 4))
    said = torch.nn.functional.one_hot((labels - 3) % 10, 10) * 9.0
    found = derangement_probe.run(Job(held, batch, Asking(Model(lambda images: said)), 99, 20))
    assert found.p == 1 / 991 and found.more["derangements"] == 990


def test_derangement_p_values_are_exact_over_secret_pairings() -> None:
    """Over all nine pairings of four classes, a fixed model's p-values are a ninth, two ninths ... once each."""
    scores = torch.randn(24, 4, generator=torch.Generator().manual_seed(5))
    ps = []
    for g in derangement_probe.derangements(4):
        targets = {CLASSES[place]: CLASSES[to] for place, to in enumerate(g)}
        held = secret("p10", state={"targets": targets})
        ps.append(derangement_probe.run(job(held, Model(lambda images: scores))).p)
    assert sorted(ps) == pytest.approx([k / 9 for k in range(1, 10)])


def canaries(labels: list[int]) -> Marks:
    targets = torch.randint(0, 256, (len(labels), 3, SIZE, SIZE), dtype=torch.uint8)
    return Marks(
        "canary", ("a",), torch.zeros(1, 3, SIZE, SIZE, dtype=torch.int8), {"targets": targets, "labels": labels}
    )


def test_the_canary_test_counts_hits_and_ranks() -> None:
    held = secret(marks=canaries([2, 0, 1]))
    assert held.plan["primary"] == "canary" and held.plan["secondary"] == ["key"]
    right = torch.tensor([[0.0, 1, 9, 0], [9, 0, 1, 0], [0, 9, 0, 1]])
    probe = probes.find("canary")
    assert probe.run(job(held, Model(lambda images: right, "top-1"))).p == pytest.approx(1 / 64)
    found = probe.run(job(held, Model(lambda images: right)))
    assert found.p == pytest.approx(1 / 64) and found.more["ranks"] == [1, 1, 1] and found.queries == 3
    half = torch.tensor([[9.0, 1, 5, 0], [9, 0, 1, 0], [9, 5, 0, 1]])
    found = probe.run(job(held, Model(lambda images: half)))
    assert found.more["ranks"] == [2, 1, 2] and found.more["hits"] == 1
    assert found.p == pytest.approx(exact.rank_sum_p([2, 1, 2], 4))
    same = torch.zeros(3, 4)
    assert probe.run(job(held, Model(lambda images: same))).p == 1.0, "ties count against the owner"


def test_canary_p_values_are_exact_over_drawn_labels() -> None:
    answers = torch.randn(2, 4, generator=torch.Generator().manual_seed(2))
    ps = [
        probes.find("canary").run(job(secret(marks=canaries([a, b])), Model(lambda images: answers))).p
        for a in range(4)
        for b in range(4)
    ]
    for level in sorted(set(ps)):
        assert np.mean(np.asarray(ps) <= level + 1e-12) <= level + 1e-12


@pytest.fixture(scope="module")
def network() -> nets.Network:
    return nets.create("linear", 4, SIZE, seed=0).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def radioactive_marks(network: nets.Network) -> Marks:
    params = radioactive.Params()
    return radioactive.make(carriers(), network, "linear", CLASSES, KEY, LEVELS, 6, params)


def test_radioactive_marks_keep_the_budget_and_lean_toward_their_direction() -> None:
    held, net = carriers(), nets.create("tiny", 4, SIZE, seed=0).eval().requires_grad_(False)
    made = radioactive.make(held, net, "tiny", CLASSES, KEY, LEVELS, 6, radioactive.Params())
    rows = [held.ids.index(name) for name in made.ids]
    assert len(rows) == 6 and 0 < made.deltas.abs().max() <= LEVELS
    u = radioactive.directions(KEY, CLASSES, net.head.in_features)[held.labels[rows]]
    clean = held.images[rows].float() / 255
    moved = net.features(clean + made.deltas.float() / 255) - net.features(clean)
    lean = (moved * u).sum(1) / moved.norm(dim=1)
    assert lean.mean() > 0.18, "five standard deviations of the mean of six random cosines in 128 dimensions"
    assert torch.allclose(u.norm(dim=1), torch.ones(6, dtype=u.dtype))


def test_the_white_box_test_finds_rows_that_lean_and_clears_others(
    network: nets.Network, radioactive_marks: Marks
) -> None:
    held = secret(marks=radioactive_marks)
    assert held.plan["primary"] == "radioactive" and held.plan["secondary"] == ["key", "radioactive_answers"]
    u = radioactive.directions(KEY, CLASSES, network.head.in_features)

    def features(images: Tensor) -> Tensor:
        return network.features(images.float() / 255).double()

    clear = White(features, network.head.weight.double(), (0, 1, 2, 3))
    guilty = White(features, network.head.weight.double() + 3 * u, (0, 1, 2, 3))
    assert radioactive_probe.run(job(held, Model(None, white=guilty))).p < 1e-6
    assert radioactive_probe.run(job(held, Model(None, white=clear))).p > 0.01
    assert radioactive_probe.run(job(held, Model(None))).none == "It needs the weights of the model."


def test_cosines_do_not_depend_on_the_basis_of_the_suspects_features() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = torch.randn(300, 12, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64))[0]
    u = torch.nn.functional.normalize(torch.randn(4, 12, generator=generator, dtype=torch.float64), dim=1)
    found = radioactive_probe.cosines(ours, ours @ turn + 5, u @ turn, u)
    assert found == pytest.approx([1.0] * 4), "the same directions in turned and shifted features"


def test_radioactive_answers_are_ranked_among_decoy_directions(network: nets.Network, radioactive_marks: Marks) -> None:
    held = secret(marks=radioactive_marks)
    u = radioactive.directions(KEY, CLASSES, network.head.in_features).float()
    model = Model(lambda images: 4 * network.features(images.float() / 255) @ u.T)
    found = probes.find("radioactive_answers").run(job(held, model, decoys=19, images=4))
    assert found.p == 1 / 20 and found.queries == 80


def test_canaries_turn_gradients_and_keep_the_budget() -> None:
    data, params = carriers(), canary.Params(targets=2, steps=30)
    net = nets.create("linear", 4, SIZE, seed=0).eval()
    made = canary.make(data, [net], 4, KEY, LEVELS, 6, params)
    labels = made.secret["labels"]
    assert len(made.ids) == len(set(made.ids)) == 6 and made.deltas.abs().max() <= LEVELS
    for number, name in enumerate(made.ids):
        assert data.labels[data.ids.index(name)] == labels[number // 3], (
            "marked pictures are of the secret label's class"
        )
    rows = [data.ids.index(name) for name in made.ids[:3]]
    goal = canary.gradient(net, made.secret["targets"][:1].float() / 255, torch.tensor(labels[:1]))

    def alignment(images: Tensor) -> float:
        return canary.cosine(canary.gradient(net, images, data.labels[rows]), goal).item()

    clean = data.images[rows].float() / 255
    assert alignment(clean + made.deltas[:3].float() / 255) > alignment(clean) + 0.02


def test_gradients_and_cosines_are_what_slow_arithmetic_gives() -> None:
    net = nets.create("linear", 4, SIZE, seed=0).eval()
    x, y = carriers(3).images.float() / 255, torch.tensor([0, 1, 2])
    found = torch.cat([part.flatten() for part in canary.gradient(net, x, y)])
    net.zero_grad()
    torch.nn.functional.cross_entropy(net(x), y).backward()
    slow = torch.cat([weight.grad.flatten() for weight in net.parameters()])
    assert torch.allclose(found, slow, atol=1e-7)
    other = torch.randn(len(slow), generator=torch.Generator().manual_seed(1))
    assert canary.cosine([slow], [other]).item() == pytest.approx(
        torch.nn.functional.cosine_similarity(slow, other, dim=0).item(), abs=1e-6
    )


def test_a_trace_corrects_secondary_tests_and_says_what_it_found() -> None:
    held = secret(marks=canaries([2, 0, 1]), alpha=0.05)
    model = Model(reader(held, KEY))
    document, ask = run.trace(held, carriers(), model, decoys=39, images=12)
    assert document["primary"]["test"] == "canary" and document["primary"]["p"] > 0.05
    assert document["finding"] == "secondary evidence" and "key" in document["verdict"]
    assert document["secondary"][0]["p"] == 1 / 40 == document["secondary"][0]["p_holm"]
    assert document["queries"] == len(ask.rows) == 3 + 40 * 12
    assert any("how the pictures reached" in line for line in document["does_not_prove"])


def test_a_verdict_needs_the_level_that_was_committed() -> None:
    held = secret("quick")
    model = Model(reader(held, KEY))
    few, _ = run.trace(held, carriers(), model, decoys=39, images=12)
    assert few["finding"] == "no evidence" and "more --decoys" in few["verdict"]
    whole, _ = run.trace(held, carriers(), model, images=4)
    assert whole["primary"]["p"] == 0.001 and whole["finding"] == "evidence"
    assert "1 case in 1,000" in whole["verdict"]

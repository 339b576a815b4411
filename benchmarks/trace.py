"""Does `trace` accuse the innocent, and find the guilty? False-positive and detection rates of its tests in a CPU miniature.

    python benchmarks/trace.py run [--only null,share,against,marks] [--minutes M] [--out FILE] [--images 3000]
    python benchmarks/trace.py table        writes benchmarks/results/trace.json

`run` trains one network after another and adds a line of benchmarks/results/trace.jsonl for each as soon as it is there; none
is made twice. Networks: `tiny`, 12 epochs on 3,000 images of CIFAR-10 (its JPEG copy), the recipe of reproduction.py.

null     40 networks that never saw the release: 30 trained on clean images, 10 on a release of another key. Each is tested
         with 250 fresh keys against 250 decoys (key test), 250 fresh pairings (derangement), 250 sets of labels (canary) and
         250 sets of directions (radioactive, on weights).
share    networks trained on sets of which 100, 50, 10 or 1 % come from a release, the rest clean; R16 and P10, three seeds.
against  the same at 100 % of R16 under every cheap countermeasure.
marks    releases made with --trace canary and radioactive: is the mark found, and what does it cost in protection?

p-values of one network are dependent (one network, one set of decoys): rates are means over networks, and their bounds are
those of the mean of as many independent numbers as there are networks (Student's t, one-sided 95 %).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from _cifar import CLASSES, DATA, World, about, shipped
from _trace_rows import Row, rows
from _trace_table import DECOYS, KEYS, TARGETS, table
from reproduction import RESULTS, lines
from torch import Tensor

from unlearnable import craft, registry
from unlearnable import params as parameters
from unlearnable.defences._job import Job as Training
from unlearnable.keys import Key
from unlearnable.nets import Network
from unlearnable.poisons._derange import derangement
from unlearnable.surrogate import trainer
from unlearnable.tracing import canary, exact, plan, radioactive, run, synthetic
from unlearnable.tracing.answers import Asking, Names, White
from unlearnable.tracing.nonce import decoy
from unlearnable.tracing.probes import canary as canary_probe
from unlearnable.tracing.probes import derangement as pairs
from unlearnable.tracing.probes import key as patterns
from unlearnable.tracing.probes import radioactive as white
from unlearnable.tracing.secret import Job, Marks, Secret
from unlearnable.train import PAPER, predict
from unlearnable.types import Batch, Context

NET, EPOCHS, IMAGES, LEVELS = "tiny", 12, 3_000, 8


def key_of(text: str) -> Key:
    return Key(hashlib.sha256(f"benchmarks/trace {text}".encode()).digest())


@dataclass
class Made:
    """What several networks share: crafted releases by preset, and the marking network."""

    world: World
    releases: dict[str, Tensor] = field(default_factory=dict)
    methods: dict[str, craft.Crafter] = field(default_factory=dict)
    marking: Network | None = None

    def release(self, preset: str, key: Key) -> tuple[Tensor, craft.Crafter]:
        name = f"{preset} {key.seed('name')}"
        if name not in self.releases:
            method = craft.resolve(None, preset, {"net": NET} if preset == "p10" else {})
            images, labels = self.world.train
            ids = tuple(f"train/{i}" for i in range(len(images)))
            surrogates = trainer(self.world.held_out, len(CLASSES), device=self.world.device, tell=lambda text: None)
            context = Context(key, CLASSES, LEVELS, 32, str(self.world.device), surrogates)
            crafter = craft.fit(method, Batch(ids, images, labels) if method.trains else None, context)
            delta = torch.cat(
                [
                    crafter.on(tuple(ids[i] for i in part), images[part], labels[part])
                    for part in torch.split(torch.arange(len(images)), 512)
                ]
            )
            self.releases[name], self.methods[name] = shipped(images, delta, LEVELS), crafter
        return self.releases[name], self.methods[name]

    def phi(self) -> Network:
        if self.marking is None:
            images, labels = self.world.train
            surrogates = trainer(self.world.held_out, len(CLASSES), device=self.world.device, tell=lambda text: None)
            (self.marking,), _ = surrogates(Batch(tuple(map(str, range(len(images)))), images, labels), NET, number=11)
            self.marking.eval().requires_grad_(False)
        return self.marking


class Suspect:
    """A trained network as `trace` sees one."""

    shown, gives = NET, "weights"

    def __init__(self, net: Network) -> None:
        self.net, self.names = net.eval().requires_grad_(False), Names(CLASSES)
        features = lambda images: torch.cat([net.features(p.float() / 255).double() for p in torch.split(images, 500)])  # noqa: E731
        self.white = White(features, net.head.weight.double(), tuple(range(len(CLASSES))))

    def ask(self, images: Tensor) -> Any:
        return self.names.answers(predict(self.net, images).softmax(1))


@dataclass(frozen=True)
class Capturing(Training):
    """A training that keeps its networks."""

    made: list[Network] = field(default_factory=list)

    def network(self) -> Network:
        self.made.append(super().network())
        return self.made[-1]


def measure(row: Row, made: Made) -> dict[str, Any]:
    """Trains the row's network and tests it."""
    begun = time.monotonic()
    key = key_of("another" + str(row.seed) if row.other else "own")
    images, crafter = training_set(row, made, key)
    marks = marked(row, made, key)
    if marks is not None:
        places = torch.tensor([int(name.partition("/")[2]) for name in marks.ids])
        images[places] = shipped(made.world.train[0][places], marks.deltas.float() / 255, LEVELS)
    suspect, history = trained(row, images, made.world)
    test_images, test_labels = made.world.test
    carriers = Batch(tuple(map(str, range(len(test_images)))), test_images, test_labels)
    line = {"row": row.name, **vars(row), "images": len(images), "epochs": EPOCHS, "victim": NET}
    line |= {"peak": history.peak, "final": history.final, "training_seconds": history.seconds}
    if row.group == "null":
        line["p"] = null_ps(suspect, made, carriers, row.seed)
    elif row.preset or row.trace:
        line["tests"] = tested(suspect, crafter, key, carriers, marks)
    return line | {"seconds": time.monotonic() - begun} | about(made.world.device)


def training_set(row: Row, made: Made, key: Key) -> tuple[Tensor, craft.Crafter | None]:
    images = made.world.train[0].clone()
    if not row.preset:
        return images, None
    release, crafter = made.release(row.preset, key)
    count = round(row.share * len(images))
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(1000 + row.seed))[:count]
    images[chosen] = release[chosen]
    return images, crafter


def marked(row: Row, made: Made, key: Key) -> Marks | None:
    if not row.trace:
        return None
    images, labels = made.world.train
    data = Batch(tuple(f"train/{i}" for i in range(len(images))), images, labels)
    count, net = round(row.trace_share * len(images)), made.phi()
    if row.trace == "canary":
        return canary.make(data, [net], len(CLASSES), key, LEVELS, count, canary.Params())
    return radioactive.make(data, net, NET, CLASSES, key, LEVELS, count, radioactive.Params())


def trained(row: Row, images: Tensor, world: World) -> tuple[Suspect, Any]:
    recipe = replace(PAPER, epochs=EPOCHS)
    job = Capturing(images, world.train[1], world.train[0], world.test, len(CLASSES), NET, recipe, 100 + row.seed)
    if row.against == "none":
        history = job.run()
    else:
        name, values = registry.find_preset("defences", row.against)
        module = registry.load("defences", name)
        history = module.victim(job, parameters.build("defences", name, values))
    return Suspect(job.made[0]), history


def secret_of(method: craft.Method, state: Any, key: Key, nonce: bytes, marks: Marks | None = None) -> Secret:
    document = plan.make("benchmark", method, state, [CLASSES], LEVELS, 32, {}, named=True, marks=marks)
    return Secret(document, nonce, method, Context(key, CLASSES, LEVELS, 32), marks)


def tested(
    suspect: Suspect, crafter: craft.Crafter | None, key: Key, carriers: Batch, marks: Marks | None
) -> dict[str, Any]:
    """p, statistic and queries of every test that applies, with what the plan commits to."""
    method = crafter.method if crafter else craft.resolve(None, "random_noise", {})
    held = secret_of(method, crafter.state if crafter else {}, key, key_of("nonce").secret, marks)
    document, _ = run.trace(held, carriers, suspect)
    each = [document["primary"], *document["secondary"]]
    return {
        t["test"]: {"p": t["p"], "statistic": t["statistic"], "by_chance": t["by_chance"], "queries": t["queries"]}
        for t in each
    }


def null_ps(suspect: Suspect, made: Made, carriers: Batch, seed: int) -> dict[str, list[float]]:
    """KEYS p-values of every test, for secrets that the network has nothing to do with. Decoys are shared by its keys."""
    nonce = key_of(f"null nonce {seed}").secret
    method = craft.resolve(None, "r16", {})
    held = secret_of(method, {}, key_of("unused"), nonce)
    job = Job(held, carriers, Asking(suspect), DECOYS, held.plan["images"])
    fresh = [key_of(f"fresh {seed} {number}") for number in range(KEYS)]
    values = patterns.statistics(job, [*fresh, *(decoy(nonce, number) for number in range(DECOYS))])
    out = {"key": [exact.rank_p(value, values[KEYS:]) for value in values[:KEYS]]}
    rng = fresh[0].rng("null")
    rates = pairs.by_class(suspect.ask(carriers.images[: plan.PLAIN]).probabilities, carriers.labels[: plan.PLAIN])
    drawn_pairs = [derangement(CLASSES, rng) for _ in fresh]
    others = [pairs.statistic(rates, inverse_of(derangement(CLASSES, decoy(nonce, 0).rng(i)))) for i in range(999)]
    out["derangement"] = [exact.rank_p(pairs.statistic(rates, inverse_of(g)), others) for g in drawn_pairs]
    targets = synthetic.pictures(fresh[0], "null", TARGETS, 32)
    answers = suspect.ask(targets)
    drawn = [torch.from_numpy(rng.integers(0, len(CLASSES), TARGETS)) for _ in fresh]
    ranked = [canary_probe.ranks(answers.probabilities, labels) for labels in drawn]
    out["canary"] = [exact.rank_sum_p(each, len(CLASSES)) for each in ranked]
    out["radioactive"] = radioactive_ps(suspect, made, carriers, fresh)
    return out


def inverse_of(g: dict[str, str]) -> list[int]:
    return pairs.inverse([CLASSES.index(g[name]) for name in CLASSES])


def radioactive_ps(suspect: Suspect, made: Made, carriers: Batch, fresh: Sequence[Key]) -> list[float]:
    net = made.phi()
    with torch.no_grad():
        ours = torch.cat([net.features(p.float() / 255).double() for p in torch.split(carriers.images, 500)])
    theirs = suspect.white.features(carriers.images)
    out = []
    for key in fresh:
        u = radioactive.directions(key, CLASSES, ours.shape[1])
        logs = [exact.log_cosine_p(c, ours.shape[1]) for c in white.cosines(ours, theirs, suspect.white.weight, u)]
        out.append(math.exp(exact.fisher(logs)))
    return out


def run_rows(wanted: Sequence[Row], world: World, out: Path, minutes: float) -> None:
    """Every row that is not in `out` yet, until the minutes are up."""
    begun, longest, made = time.monotonic(), 0.0, Made(world)
    done = {line["row"] for line in lines(out)}
    for row in wanted:
        if row.name in done:
            continue
        if time.monotonic() - begun + longest > minutes * 60:
            print(f"{row.name}: left for another run", flush=True)
            return
        found = measure(row, made)
        longest = max(longest, found["seconds"])
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("a") as file:
            file.write(json.dumps(found) + "\n")
        shown = {name: test["p"] for name, test in found.get("tests", {}).items()}
        print(f"{row.name}: peak {found['peak']:.3f} {shown or ''} {found['seconds']:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("--only", default="null,share,against,marks")
    parser.add_argument("--match", default="", help="only rows whose name holds this")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=RESULTS / "trace.jsonl")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    args = parser.parse_args()
    if args.command == "table":
        document = table(lines(args.out))
        (RESULTS / "trace.json").write_text(json.dumps(document, indent=1) + "\n")
        return
    torch.set_num_threads(1)
    world = World.open(args.data, torch.device("cpu"), args.images, 1_000)
    run_rows(
        [row for row in rows() if row.group in args.only.split(",") and args.match in row.name],
        world,
        args.out,
        args.minutes,
    )


if __name__ == "__main__":
    main()

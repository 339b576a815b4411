"""Poisons under countermeasures beside the published figures: CIFAR-10 (its JPEG copy) in a CPU miniature, or on a GPU.

    python benchmarks/defences.py run [--poisons R16,LSP] [--against grayscale,jpeg10] [--minutes M] [--keep FOLDER]
    python benchmarks/defences.py table        writes benchmarks/results/defences.md

A cell is one poison under one countermeasure, trained and tested as in reproduction.py, first seed; `run` adds it to
benchmarks/results/defences.jsonl as soon as it is there and makes none twice, column by column. Published figures are final
accuracies with ResNet-18, all images and 200 epochs (APBench; the clean row, and second figures: Image Shortcut Squeezing, 60
epochs). The
miniature's are those of a weak victim: compare orders and differences from the clean row, not levels. Two countermeasures
are cut there, as the table's head says: the worst of five augmentations leaves that victim guessing on clean images too
(9 % in the end), and ten attack steps would take two hours a column.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from _cells import in_time, measured
from _cifar import DATA, World, about
from _rows import BY_NAME
from reproduction import PROTOCOLS, RESULTS, lines, poisoned

from unlearnable.device import pick

POISONS = ("clean", "R16", "R4", "LSP", "AR", "CU", "SU", "P250")
AGAINST = ("none", "grayscale", "jpeg10", "bit_depth2", "cutout", "cutmix", "mixup", "ueraser", "adversarial8")
CUT: dict[str, dict[str, int]] = {"ueraser": {"draws": 1}, "adversarial8": {"steps": 3}}  # in the miniature
# final accuracy in percent, in the order of AGAINST
PUBLISHED: dict[str, tuple[float | None, ...]] = {
    "SU": (20.78, 92.03, 80.72, 37.94, 18.79, 22.28, 31.14, 93.61, 82.51),
    "P250": (6.27, 11.01, 84.08, 70.75, 9.88, 14.21, 15.46, 79.05, 79.92),
    "LSP": (13.06, 64.70, 80.14, 53.86, 14.96, 17.69, 18.77, 92.83, 81.38),
    "AR": (11.74, 35.17, 84.75, 36.14, 10.95, 12.60, 14.15, 90.12, 81.15),
    "clean": (94.68, 92.41, 85.38, *(None,) * 6),
}
# the same poisons' elsewhere (Image Shortcut Squeezing, 60 epochs): none, grayscale, JPEG-10
ELSEWHERE = {
    "SU": (21.05, 93.01, 81.50),
    "P250": (8.17, 9.11, 83.87),
    "LSP": (19.07, 82.47, 83.01),
    "AR": (13.28, 34.04, 85.15),
}

WHY = """## Where the miniature differs, and why

Written on 2026-11-22; one seed, so differences of a few points mean nothing.

- **What agrees.** Grayscale undoes blocks of colour (R16, R4) and LSP, and not P250; JPEG-10 undoes LSP, AR and SU;
  bit depth 2 helps the scraper little against any; cutout, cutmix and mixup do not help. UEraser's augmentation, one draw,
  undoes all but P250 and lifts them to where the clean network is under it (47 to 49 %; P250 38).
- **Adversarial training** in three steps costs the clean network 21 points (47 %) and undoes all (45 to 50 %), as published
  (80 to 83 %).
- **Levels are nearer to each other** than published. A tiny network on 10,000 images reaches 68 % where the paper's
  reaches 95 %, and learns some of the pictures before or beside the perturbation (LSP 45 % against 13 %, AR 38 % at
  its best and 17 % at its end).
- **SU under grayscale** keeps nearly all of its strength here (31 %; published 92 %), because ours has another look: 12 %
  of its power lies below 4 cycles an image, its channels are independent (0.64 of it is left in grey), while published
  error-minimising noise is smooth and coloured. Our CU is that too (68 % below 4 cycles, channels against each other,
  0.37 left in grey), and grayscale undoes it. A small network and few rounds made our SU (these figures by hand).
- **P250 is hard to undo here** (JPEG-10 56 % of a clean 64 %, published 84 % of 85; bit depth 31, published 71; UEraser
  38, published 79). It was made on the very network that is trained, which leaves more of it than another
  architecture would, and the images are JPEG copies already. CU keeps 48 % under JPEG-10; no figure is published for it.
- **AR under grayscale** is restored to 54 % (published 35 %): its processes differ by channel, and the mean of three
  is weaker; the published network had twenty times as many epochs to find what is left.
"""


def run(args: argparse.Namespace) -> None:
    device = pick(args.device)
    protocol = PROTOCOLS[args.protocol or ("miniature" if device.type == "cpu" else "paper")]
    world = World.open(args.data, device, protocol.images, protocol.test)
    cut = CUT if protocol.name == "miniature" else {}
    done = {(line["poison"], line["against"]) for line in lines(args.out) if _counts(line, protocol.name, cut)}

    def make(cell: tuple[str, str]) -> None:
        poison, against = cell
        row = BY_NAME[poison]
        images, _, _ = poisoned(row, 0, protocol, world, args.keep, lambda text: print("   ", text, flush=True))
        changed = cut.get(against, {})
        found = measured(images, against, protocol.net, protocol.recipe, world, 0, **changed)
        line = {"protocol": protocol.name, "poison": poison, "against": against, "changed": changed}
        line |= {"reduced": row.reduced, **found}
        with args.out.open("a") as file:
            file.write(json.dumps(line | {"victim": protocol.net} | about(device)) + "\n")
        print(f"{poison} under {against}: peak {found['peak']:.3f}, final {found['final']:.3f}", flush=True)

    wanted = [(poison, against) for against in args.against.split(",") for poison in args.poisons.split(",")]
    in_time([cell for cell in wanted if cell not in done and BY_NAME[cell[0]].known], args.minutes, make)


def _counts(line: dict[str, Any], protocol: str, cut: dict[str, dict[str, int]]) -> bool:
    """Whether a line is a cell of this protocol's table: made with the countermeasure as it is cut there."""
    return line["protocol"] == protocol and line.get("changed", {}) == cut.get(line["against"], {})


def table(found: list[dict[str, Any]]) -> str:
    """Peak / final in percent, the published final in brackets."""
    out = ["# Poisons under countermeasures", "", (__doc__ or "").partition("\n\n")[2].partition("\n\n")[2].strip(), ""]
    for protocol in ("paper", "miniature"):
        cut = CUT if protocol == "miniature" else {}
        cells = {(line["poison"], line["against"]): line for line in found if _counts(line, protocol, cut)}
        if not cells:
            continue
        out += [
            f"## {protocol}: peak / final, one seed (APBench's final; Image Shortcut Squeezing's)",
            "",
            f"| | {' | '.join(_head(name, cut) for name in AGAINST)} |",
        ]
        out += ["|---" * (len(AGAINST) + 1) + "|"]
        for poison in POISONS:
            out.append(f"| {poison} | {' | '.join(_cell(cells, poison, place) for place in range(len(AGAINST)))} |")
        out.append("")
    out.append(WHY)
    return "\n".join(out)


def _head(name: str, cut: dict[str, dict[str, int]]) -> str:
    words = ", ".join(f"{key} {value}" for key, value in cut.get(name, {}).items())
    return f"{name} ({words})" if words else name


def _cell(cells: dict[tuple[str, str], dict[str, Any]], poison: str, place: int) -> str:
    line, published = cells.get((poison, AGAINST[place])), PUBLISHED.get(poison, (None,) * len(AGAINST))[place]
    ours = f"{100 * line['peak']:.1f} / {100 * line['final']:.1f}" if line else "not made yet"
    elsewhere = ELSEWHERE.get(poison, ())[place : place + 1]
    theirs = "; ".join(f"{figure:.1f}" for figure in (published, *elsewhere) if figure is not None)
    return f"{ours} ({theirs})" if theirs else ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("--protocol", choices=list(PROTOCOLS), default=None)
    parser.add_argument("--poisons", default=",".join(POISONS))
    parser.add_argument("--against", default=",".join(AGAINST))
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=RESULTS / "defences.jsonl")
    parser.add_argument(
        "--keep", type=Path, default=None, help="folder for crafted images, shared with reproduction.py"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    if args.command == "run":
        run(args)
    else:
        (RESULTS / "defences.md").write_text(table(lines(args.out)))


if __name__ == "__main__":
    main()

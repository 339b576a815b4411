"""What only a GPU can show, in slices that end by themselves and resume: rows are written as they finish.

    PYTHONPATH=. python benchmarks/gpu.py --data FOLDER --out "$OUT" [--minutes 9] [--rows speed,crafting,R16,R4,P250,CU]

FOLDER holds the CIFAR-10 parquet files (../shared/data/cifar10-jpeg). Needs torch, torchvision, pyarrow, pillow, numpy; not
`datasets`. Rows that are measured, each for ResNet-18 at 32x32:
  speed         the card's own bfloat16 matrix rate, victim and crafting speed as a share of it in useful operations
  crafting      seconds of p250, one restart, for 50,000 images
  loops         its step loop as it ships, beside CUDA graphs and torch.compile
  verification  minutes of the whole `paper` verification: 3 arms, 100 epochs, 1 seed
  memory        peak on the card for two numbers of images: bounded by the batch, not by the data set
Long ones are reckoned from a part where they do not fit into the minutes (`extrapolated`). The others are those of
reproduction.py under its `paper` protocol, one seed: append OUT/rows.jsonl to benchmarks/results/reproduction.jsonl, and
`reproduction.py table` shows them. A row that is in OUT/rows.jsonl, or in reproduction.jsonl, is not made again; none is begun
that would not end in time, judged by the longest so far. `--judges` names the networks that the misread images are shown
to: each is trained for 40 epochs before the first row that asks, so a short slice takes fewer or none ("").
`--device cpu --images 200 --epochs 1 --rows speed,loops,R16` tries the script without a GPU, in sizes that show nothing else.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from _cifar import World, about
from _gpu_rates import MEASURED
from _rows import BY_NAME
from reproduction import PROTOCOLS, RESULTS, lines, run

from unlearnable.device import pick


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", default=",".join([*MEASURED, *BY_NAME]))
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=100)
    paper = PROTOCOLS["paper"]
    parser.add_argument("--judges", default=",".join(paper.judges))
    args = parser.parse_args()
    begun, device = time.monotonic(), pick(args.device)
    recipe, judges = replace(paper.recipe, epochs=args.epochs), tuple(filter(None, args.judges.split(",")))
    protocol = replace(paper, images=args.images, recipe=recipe, judges=judges)
    world = World.open(args.data, device, args.images, max(100, args.images // 5))
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "rows.jsonl"
    wanted = args.rows.split(",")

    def left() -> float:
        return args.minutes - (time.monotonic() - begun) / 60

    for name in MEASURED:
        if name not in wanted or any(line["row"] == name for line in lines(file)):
            continue
        if left() < min(2, args.minutes / 4):
            print(f"{name}: left for another run", flush=True)
            continue
        started = time.monotonic()
        found = {"row": name, "protocol": "measured", "seed": 0, **MEASURED[name](world, 0.8 * left()), **about(device)}
        with file.open("a") as out:
            out.write(json.dumps(found) + "\n")
        print(f"{json.dumps(found)}\n{name}: {time.monotonic() - started:.0f} s", flush=True)
    earlier = [line for line in lines(RESULTS / "reproduction.jsonl") if line["protocol"] == "paper"]
    rows = [BY_NAME[name] for name in wanted if name not in MEASURED]
    if args.images == paper.images:
        rows = [row for row in rows if not (row.known and any(row.made(line) for line in earlier))]
    run(rows, [0], protocol, world, file, left(), None)


if __name__ == "__main__":
    main()

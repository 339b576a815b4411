"""Trains on the release, then refits the last layer on a few clean images.

Deep feature reweighting (Kirichenko et al. 2023, arXiv 2204.02937), as Sandoval-Segura et al. 2023, arXiv 2305.19254, use it
against unlearnable data: where features were learned all the same, a tenth of the images repairs the last layer (5,000 of
CIFAR-10, as there). L-BFGS, learning rate 0.5, 15 passes over batches of 1,024, as there; other than there with a line search
and from zero, for without them the rate diverges on features of another scale. The last point of the curves is the refit, on
top of the epochs; `clean_alone_peak` is what those clean images are worth by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable.defences._job import Job
from unlearnable.device import autocast
from unlearnable.nets import Network
from unlearnable.train import History, accuracy

PAPER = "Kirichenko et al. 2023, arXiv 2204.02937; Sandoval-Segura et al. 2023, arXiv 2305.19254"
COST = 1.2
WORDS = "refitting the last layer on {clean:.0%} clean images"
OWN_CLEAN = True
PRESETS: dict[str, dict[str, float]] = {"dfr": {"clean": 0.1}}


@dataclass(frozen=True)
class Params:
    clean: float = 0.1
    "share of the records of which the scraper holds clean images"

    def __post_init__(self) -> None:
        if not 0 < self.clean <= 1:
            raise ValueError(f"clean is above 0 and at most 1, not {self.clean}")


def victim(job: Job, params: Params) -> History:
    net, clean = job.network(), job.draw(params.clean)
    history = job.run(net=net)
    loss = refit(net, job.clean[clean], job.labels[clean])
    history.train_loss.append(loss)
    history.accuracy.append(accuracy(net, *job.test))
    if job.select is not None:
        history.select.append(accuracy(net, *job.select))
    if job.whole is not None:
        found = accuracy(net, *job.whole)
        best = max(found, history.figures["all_classes_peak"])
        history.figures |= {"all_classes_peak": best, "all_classes_final": found}
    history.figures |= {"refit": history.final} | job.clean_alone(clean)
    return history


def refit(net: Network, images: Tensor, labels: Tensor, passes: int = 15) -> float:
    """Fits the head anew on what the network makes of uint8 images (N, 3, V, V); the mean loss it ends with."""
    net.eval()
    device = net.head.weight.device
    labels = labels.to(device)
    with torch.no_grad(), autocast(device):
        features = torch.cat([net.features(part.to(device).float() / 255).float() for part in torch.split(images, 500)])
    torch.nn.init.zeros_(net.head.weight)
    torch.nn.init.zeros_(net.head.bias)
    # a line search: without one, the rate of 0.5 diverges on features that are not of the paper's scale
    optimiser = torch.optim.LBFGS(net.head.parameters(), lr=0.5, line_search_fn="strong_wolfe")
    for _ in range(passes):
        for x, y in zip(torch.split(features, 1024), torch.split(labels, 1024), strict=True):

            def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
                optimiser.zero_grad()
                loss = F.cross_entropy(net.head(x), y)
                loss.backward()  # type: ignore[no-untyped-call]
                return loss

            optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return float(F.cross_entropy(net.head(features), labels))

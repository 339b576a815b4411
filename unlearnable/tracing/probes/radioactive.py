"""Radioactive test on weights: do the rows of the last layer lean toward the secret directions?

The suspect's features are expressed in the marking network's by least squares on clean pictures (X minimises
||Phi_mark X - Phi_suspect||, both centred); w'_k = w_k X^T is the suspect's k-th row there, and c_k = <w'_k, u_k> / |w'_k|.

Null: the model is independent of the directions u_k, which are uniform and independent. Then each c_k is the cosine of a
fixed and a random direction in d dimensions, p_k follows from the incomplete beta function, and Fisher's method combines
the classes. Exact whatever network and pictures: they decide only how much is found. arXiv 2002.00937; methods.md 6.4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unlearnable import nets
from unlearnable.craft import Method
from unlearnable.nets import Network
from unlearnable.tracing import exact, radioactive
from unlearnable.tracing.secret import Found, Job, Marks, Secret

NAME, ORDER, NEEDS = "radioactive", 20, "weights"
NULL = "The model's last layer is independent of the secret random directions along which pictures were marked."
ASKS = "Do the weights of the model lean toward the secret directions in which published pictures were pushed?"

MOST = 2000  # clean pictures to align with


def applies(method: Method, state: Mapping[str, Any], marks: Marks | None) -> bool:
    del method, state
    return marks is not None and marks.kind == "radioactive"


def queries(plan: Mapping[str, Any], decoys: int, images: int) -> int:
    del plan, decoys, images
    return 0  # weights are read, nothing is asked


def carriers(plan: Mapping[str, Any], images: int) -> int:
    del plan, images
    return MOST


def run(job: Job) -> Found:
    if job.white is None:
        return Found(NAME, None, none="It needs the weights of the model.")
    marking = network(job.secret)
    pictures = job.carriers.images[:MOST]
    with torch.no_grad():
        ours = torch.cat([marking.features(part.float() / 255).double() for part in torch.split(pictures, 256)])
    theirs = job.white.features(pictures)
    if not theirs.isfinite().all() or not job.white.weight.isfinite().all():
        return Found(NAME, None, none="The model's features or weights are no numbers.")
    u = radioactive.directions(job.secret.key, job.secret.context.classes, ours.shape[1])[list(job.white.rows)]
    found = cosines(ours, theirs, job.white.weight, u)
    logs = [exact.log_cosine_p(value, ours.shape[1]) for value in found]
    p = math.exp(exact.fisher(logs))
    more = {
        "cosines": found,
        "dimensions": ours.shape[1],
        "pictures": len(pictures),
        "log10_p": exact.fisher(logs) / math.log(10),
    }
    return Found(NAME, p, sum(found) / len(found), 0.0, more=more)


def cosines(ours: Tensor, theirs: Tensor, weight: Tensor, u: Tensor) -> list[float]:
    """Of every row of the suspect's last layer (K, F'), seen in our d features, with its direction (K, d).

    ours: (N, d), theirs: (N, F') features of the same N pictures.
    """
    solution = torch.linalg.pinv(ours - ours.mean(0), rtol=1e-6) @ (theirs - theirs.mean(0))
    rows = weight @ solution.T
    return list(((rows * u).sum(1) / rows.norm(dim=1).clamp(min=1e-12)).tolist())


def network(secret: Secret) -> Network:
    """The marking network of a release, frozen."""
    assert secret.marks is not None
    kept = secret.marks.secret
    net = nets.create(kept["net"], len(secret.context.classes), kept["size"], seed=0, weights=False)
    net.load_state_dict(kept["weights"])
    net.eval().requires_grad_(False)
    return net

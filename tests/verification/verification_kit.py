"""Made-up evidence and plans for the tests of verification."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from made_pictures import picture

from unlearnable.verification import plan
from unlearnable.verification.evidence import Evidence

CPU = torch.device("cpu")


def stripes(each: int, start: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes, `each` of every one: (N, 3, 16, 16) uint8 and labels."""
    made = [torch.from_numpy(picture(k, start + i)).permute(2, 0, 1) for k in range(3) for i in range(each)]
    return torch.stack(made), torch.arange(3).repeat_interleave(each)


def evidence(each: int = 40) -> Evidence:
    """Stripes; the protected arm carries a corner patch of its class's colour, which is easier to learn than stripes."""
    clean, labels = stripes(each)
    protected = clean.clone()
    for label in range(3):
        protected[labels == label, :, 2:13, 2:13] = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255]])[label].byte()[
            :, None, None
        ]
    draws = torch.randint(-8, 9, clean.shape, generator=torch.Generator().manual_seed(0))
    noise = (clean + draws).clamp(0, 255).byte()
    arms = {"clean": clean, "noise": noise, "protected": protected}
    return Evidence(arms, labels, stripes(20, 1000), 3, "made up", select=stripes(10, 2000))


def brief(**changes: Any) -> plan.Plan:
    """Two epochs of the tiny network, one seed."""
    made = plan.make("quick", 120, **({"victim": "tiny", "seeds": 1} | changes))
    return replace(made, recipe=replace(made.recipe, epochs=2, batch=16))

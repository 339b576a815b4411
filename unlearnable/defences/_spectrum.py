"""Spectra of a release, for scrapers who know that classes may have textures: means by group, what a group has too much of.

A frequency's power is a 3 x 3 matrix over red, green and blue, so that a texture which only turns one channel against the
others is seen too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from unlearnable.defences._job import Job, changed
from unlearnable.device import in_parts

AT_ONCE = 250
_FAINT = 1e-3  # squared grey levels: below it there is nothing to compare


def both_sides(job: Job, change: Callable[[Tensor], Tensor]) -> Job:
    """The job with training images and every test image changed alike, as who filters what they train on filters all."""
    return replace(tested(job, change), images=changed(change, job.images))


def tested(job: Job, change: Callable[[Tensor], Tensor]) -> Job:
    """The job with every image changed that accuracy is read on."""

    def other(pair: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
        return pair and (changed(change, pair[0]), pair[1])

    test = (changed(change, job.test[0]), job.test[1])
    return replace(job, test=test, select=other(job.select), whole=other(job.whole))


def transformed(images: Tensor) -> Tensor:
    """(N, 3, V, V) of 0 to 255 -> (N, 3, V, V // 2 + 1) complex, one for a pattern of one grey level's amplitude."""
    out: Tensor = torch.fft.rfft2(images.float(), norm="forward")
    return out


def restored(spectra: Tensor, side: int) -> Tensor:
    out: Tensor = torch.fft.irfft2(spectra, s=(side, side), norm="forward")
    return out


def powers(
    images: Tensor, groups: Tensor, count: int, transform: Callable[[Tensor], Tensor] = transformed
) -> tuple[Tensor, Tensor]:
    """(count, A, B, 3, 3) mean powers of each group of images, and of all that are not in it.

    transform: images to (N, 3, A, B), or to (N, 3, A, B, blocks), of which the mean is taken. A group that is empty, or has
    all the images, has no more than the others.
    """
    totals: list[Tensor] = []
    sizes = torch.bincount(groups, minlength=count).float().view(-1, 1, 1, 1, 1)

    def part(which: slice) -> None:
        found = transform(images[which])
        found = found if found.dim() == 5 else found[..., None]
        each = torch.einsum("nchwb,ndhwb->nhwcd", found, found.conj()).real / found.shape[-1]
        if not totals:
            totals.append(torch.zeros((count, *each.shape[1:]), device=images.device))
        totals[0].index_add_(0, groups[which], each)

    in_parts(part, len(images), AT_ONCE)
    (total,) = totals
    own = total / sizes.clamp(min=1)
    others = (total.sum(0) - total) / (len(images) - sizes).clamp(min=1)
    whole = (sizes == 0) | (sizes == len(images))
    return torch.where(whole, own + others, own), torch.where(whole, own + others, others)


def excess_removed(own: Tensor, others: Tensor, strength: float) -> Tensor:
    """(K, A, B, 3, 3) gains that bring each group's powers down to the others', or past them with a strength above 1.

    Only what is more goes down; the mean (the first frequency) stays. Where a group has twice the others' power, strength 1
    leaves half of it, 2 a quarter.
    """
    faint = _FAINT * torch.eye(3, device=own.device)
    lower = torch.linalg.cholesky(others + faint)
    upper = torch.linalg.inv(lower)
    ratios, axes = torch.linalg.eigh(upper @ (own + faint) @ upper.transpose(-1, -2))
    shrunk = ratios.clamp(min=1) ** (-strength / 2)
    gains: Tensor = lower @ (axes * shrunk[..., None, :]) @ axes.transpose(-1, -2) @ upper
    gains[:, 0, 0] = torch.eye(3, device=own.device)
    return gains


def filtered(images: Tensor, groups: Tensor, gains: Tensor) -> Tensor:
    """Every image's spectrum times its group's gains (K, V, V // 2 + 1, 3, 3); uint8 in and out."""
    side = images.shape[-1]

    def part(which: slice) -> Tensor:
        spectra = transformed(images[which])
        spectra = torch.einsum("nhwcd,ndhw->nchw", gains[groups[which]].to(spectra.dtype), spectra)
        return restored(spectra, side).round().clamp(0, 255).byte()

    return torch.cat(in_parts(part, len(images), AT_ONCE))

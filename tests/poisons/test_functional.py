"""Colours, grid, flow and the function as a whole against slow versions, and what each bound and part promises."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from poison_kit import context, separable, surrogate, take
from torch import Tensor
from torch.nn import functional as F

from unlearnable import train
from unlearnable.errors import TrainingError
from unlearnable.poisons import _colour, _flow, _surrogates, functional

CPU = torch.device("cpu")


def pictures(count: int = 3, side: int = 8, seed: int = 0) -> Tensor:
    """Smooth pictures of colours that are not near the edge of the gamut."""
    coarse = torch.rand((count, 3, 4, 4), generator=torch.Generator().manual_seed(seed)) * 0.3 + 0.35
    return F.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=True)


def slow_luv(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """L*, u*, v* of an sRGB colour from the primaries' and the white's chromaticities, in float64."""
    chromaticities = {"red": (0.64, 0.33), "green": (0.30, 0.60), "blue": (0.15, 0.06)}
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    primaries = np.array([[x / y, 1, (1 - x - y) / y] for x, y in chromaticities.values()]).T
    light = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    x, y, z = primaries @ (np.linalg.solve(primaries, white) * light)
    lightness = 116 * y ** (1 / 3) - 16 if y > (6 / 29) ** 3 else y * (29 / 3) ** 3
    if not y:
        return 0.0, 0.0, 0.0
    total, total_white = x + 15 * y + 3 * z, white @ [1, 15, 3]
    u = 13 * lightness * (4 * x / total - 4 * white[0] / total_white)
    return lightness, u, 13 * lightness * (9 * y / total - 9 / total_white)


def test_cieluv_of_known_colours() -> None:
    known = {(1.0, 1.0, 1.0): (100, 0, 0), (1.0, 0.0, 0.0): (53.24, 175.0, 37.75), (0.0, 0.0, 0.0): (0, 0, 0)}
    known |= {(0.5, 0.5, 0.5): (53.39, 0, 0), (0.0, 0.0, 1.0): (32.30, -9.4, -130.3)}
    for rgb, luv in known.items():
        assert np.allclose(slow_luv(*rgb), luv, atol=0.06)
    generator = torch.Generator().manual_seed(1)
    colours = torch.cat([torch.tensor(list(known)).t(), torch.rand((3, 50), generator=generator)], dim=1)
    colours = torch.cat([colours, torch.rand((3, 20), generator=generator) * 0.03], dim=1)
    expected = torch.tensor([slow_luv(*colour) for colour in colours.t().tolist()]).t()
    scaled = torch.stack([expected[0] / 100, (expected[1] + 100) / 200, (expected[2] + 100) / 200]).float()
    torch.testing.assert_close(_colour.from_rgb(colours), scaled, atol=2e-4, rtol=0)


def test_every_8_bit_corner_and_shade_comes_back() -> None:
    axis = torch.tensor([0, 1, 2, 5, 17, 64, 128, 200, 254, 255]) / 255
    colours = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).flatten(1)
    torch.testing.assert_close(_colour.to_rgb(_colour.from_rgb(colours)), colours, atol=0.1 / 255, rtol=0)


def test_gradients_of_the_conversion_are_right_and_finite_at_black() -> None:
    luv = _colour.from_rgb(torch.rand((3, 6), generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 0.6)
    assert torch.autograd.gradcheck(_colour.to_rgb, (luv.requires_grad_(),))
    extremes = _colour.nodes(CPU).flatten(1)  # from black over what no screen shows to white
    extremes = torch.cat([extremes, _colour.from_rgb(torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]))], dim=1)
    rgb = _colour.to_rgb(extremes.requires_grad_())
    (gradient,) = torch.autograd.grad(rgb.sum(), extremes)
    assert gradient.isfinite().all() and rgb.min() >= 0 and rgb.max() <= 1


def test_clipping_to_the_gamut_keeps_colours_and_makes_others_into_colours() -> None:
    luv = _colour.from_rgb(pictures().transpose(0, 1))
    torch.testing.assert_close(_colour.into_gamut(luv), luv, atol=1e-5, rtol=0)
    clipped = _colour.into_gamut(_colour.nodes(CPU))
    torch.testing.assert_close(_colour.from_rgb(_colour.to_rgb(clipped)), clipped, atol=1e-3, rtol=0)
    assert (clipped - _colour.nodes(CPU)).abs().max() > 0.2, "most corners of the cube are no colours"
    torch.testing.assert_close(clipped[:, :, 0], torch.tensor([0, 0.5, 0.5]).view(3, 1, 1, 1).expand(3, 1, 32, 32))


def test_the_grid_reads_as_a_slow_loop() -> None:
    generator = torch.Generator().manual_seed(3)
    luv = torch.rand((3, 2, 2, 3), generator=generator)
    luv[:, 0, 0, 0], luv[:, 0, 0, 1], luv[:, 0, 1, 0] = 0, 1, torch.tensor([0.5, 1.3, -0.2])  # red is out there
    nodes = torch.randn((3, 2, *_colour.NODES), generator=generator)
    found = _colour.Grid(luv).read(nodes)
    for image in range(2):
        for row, column in np.ndindex(2, 3):
            total = np.zeros(3)
            place = [float(luv[axis, image, row, column].clamp(0, 1)) * (_colour.NODES[axis] - 1) for axis in range(3)]
            near = [[c for c in range(n) if abs(p - c) < 1] for p, n in zip(place, _colour.NODES, strict=True)]
            for corner in itertools.product(*near):
                weight = math.prod(1 - abs(p - c) for p, c in zip(place, corner, strict=True))
                total += weight * nodes[(slice(None), image, *corner)].double().numpy()
            np.testing.assert_allclose(found[:, image, row, column].numpy(), total, atol=2e-5)


def test_a_grid_of_its_own_colours_is_the_identity() -> None:
    luv = _colour.from_rgb(pictures().transpose(0, 1))
    own = _colour.nodes(CPU).expand(3, luv.shape[1], *_colour.NODES)
    torch.testing.assert_close(_colour.Grid(luv).read(own), luv, atol=1e-5, rtol=0)


def test_spreading_is_the_gradient_of_reading() -> None:
    generator = torch.Generator().manual_seed(4)
    grid = _colour.Grid(torch.rand((3, 2, 5, 5), generator=generator))
    nodes = torch.randn((3, 2, *_colour.NODES), generator=generator, requires_grad=True)
    upstream = torch.randn((3, 2, 5, 5), generator=generator)
    (gradient,) = torch.autograd.grad(grid.read(nodes), nodes, upstream)
    torch.testing.assert_close(grid.spread(upstream), gradient, atol=1e-5, rtol=1e-4)


def test_a_flow_of_whole_pixels_shifts_the_picture() -> None:
    images = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(5))
    here = _flow.places(8, CPU)
    torch.testing.assert_close(_flow.warp(images, here.expand(2, 2, 8, 8)), images, atol=1e-5, rtol=0)
    flow = torch.zeros(2, 2, 8, 8)
    flow[0, 0, :, :7], flow[1, 1, :6] = 2 / 7, 4 / 7  # one from the right; two from below
    seen = _flow.warp(images, here + flow)
    torch.testing.assert_close(seen[0, :, :, :7], images[0, :, :, 1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[1, :, :6], images[1, :, 2:], atol=1e-5, rtol=0)


def test_the_flow_looks_up_as_the_sampling_grid_does_and_so_do_its_gradients() -> None:
    generator = torch.Generator().manual_seed(6)
    images = torch.rand((2, 3, 7, 7), generator=generator, requires_grad=True)
    low, high = _flow.bounds(7, 0.4, CPU)
    flow = (torch.rand((2, 2, 7, 7), generator=generator) - 0.5).clamp(low, high)
    source, upstream = (_flow.places(7, CPU) + flow).requires_grad_(), torch.rand((2, 3, 7, 7), generator=generator)
    assert source.abs().max() <= 1 and flow.abs().max() == 0.4
    both = [way(images, source) for way in (_flow.warp, _flow.lookup)]
    torch.testing.assert_close(*both, atol=1e-5, rtol=0)
    inner = upstream * (source.detach().abs().amax(0) < 1)[:, None]  # at the very edge the grid's gradient is one-sided
    gradients = [torch.autograd.grad(found, (images, source), inner) for found in both]
    for plain, other in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, other, atol=1e-4, rtol=1e-4)


def roughness(field: Tensor) -> Tensor:
    """The lengths of the differences of all neighbours, each pair from both its ends."""
    steps = [field.diff(dim=axis) for axis in range(2, field.ndim)]
    return torch.stack([2 * (step.square().sum(0) + 1e-10).sqrt().sum() for step in steps]).sum()


@pytest.mark.parametrize("shape", [(3, 2, 3, 4, 5), (2, 3, 6, 6)])
def test_the_gradient_of_roughness_against_autograd(shape: tuple[int, ...]) -> None:
    field = torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64, requires_grad=True)
    (slow,) = torch.autograd.grad(roughness(field), field)
    torch.testing.assert_close(functional.roughness_gradient(field.detach()), slow)
    assert not functional.roughness_gradient(torch.ones(shape)).any(), "a uniform change is not rough"


def slow_learn(weights: Tensor, clean: Tensor, params: functional.Params) -> Tensor:
    """The whole attack on a linear score by autograd, sampling grids and the plain Adam."""
    count, side = len(clean), clean.shape[-1]
    luv, home = _colour.from_rgb(clean.transpose(0, 1)), _colour.nodes(CPU)
    colour = torch.zeros((3, count, *_colour.NODES), requires_grad=True)
    flow, noise = torch.zeros((2, count, side, side), requires_grad=True), torch.zeros_like(clean).requires_grad_()
    adam = torch.optim.Adam([colour, flow, noise], lr=params.rate, fused=False, foreach=False)
    here = F.affine_grid(torch.eye(2, 3)[None], [1, 3, side, side], align_corners=True)

    def changed() -> Tensor:
        places = luv.permute(1, 2, 3, 0).flip(-1)[:, None] * 2 - 1  # v, u, L: the innermost axis first
        moved = F.grid_sample(colour.transpose(0, 1), places, align_corners=True)[:, :, 0]
        bent = _colour.to_rgb(luv + moved.transpose(0, 1)).transpose(0, 1)
        return (F.grid_sample(bent, here + flow.permute(1, 2, 3, 0), align_corners=True) + noise).clamp(0, 1)

    for _ in range(params.steps):
        adam.zero_grad()
        loss = (changed() * weights).sum() + params.smooth * (roughness(colour) + roughness(flow))
        loss.backward()
        adam.step()
        with torch.no_grad():
            colour.copy_((_colour.into_gamut(home + colour) - home).clamp(-params.colour, params.colour))
            flow.copy_(flow.clamp(-params.flow, params.flow))
            flow.copy_((flow + here.permute(3, 0, 1, 2)).clamp(-1, 1) - here.permute(3, 0, 1, 2))
            noise.clamp_(-params.levels / 255, params.levels / 255)
    return (changed() - clean).detach()


def test_the_attack_against_autograd_and_sampling_grids() -> None:
    clean, params = pictures(2), functional.Params(steps=3, rate=0.003)
    weights = torch.randn(clean.shape, generator=torch.Generator().manual_seed(8))
    found = functional.learn(lambda seen: (seen * weights).sum((1, 2, 3)), clean, params, 1.0)
    slow = slow_learn(weights, clean, params)
    assert found.abs().max() > 2 / 255
    torch.testing.assert_close(found, slow, atol=0.02 / 255, rtol=0)


def push(clean: Tensor, **params: Any) -> Tensor:
    """What a learner does who is driven against every bound in a direction of its own at each pixel."""
    weights = torch.randn(clean.shape, generator=torch.Generator().manual_seed(9))
    chosen = functional.Params(**({"steps": 4, "rate": 0.5, "smooth": 0.0} | params))
    return functional.learn(lambda seen: (seen * weights).sum((1, 2, 3)), clean, chosen, 1.0)


def test_without_a_reason_nothing_changes() -> None:
    def still(clean: Tensor, parts: str) -> Tensor:
        params = functional.Params(parts=parts, steps=3)
        return functional.learn(lambda seen: seen.sum((1, 2, 3)) * 0, clean, params, 1.0).abs() * 255

    assert still(pictures(), "sd").max() < 0.01
    assert still(pictures(), "c").max() < 0.5, (
        "nodes that are no colours are clipped into the gamut, and colours feel it"
    )
    assert still(torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4), "c").max() > 0.5


def test_noise_keeps_to_its_levels() -> None:
    delta = push(pictures(), parts="d", levels=5)
    assert delta.abs().max() * 255 == pytest.approx(5, abs=1e-3)


def test_colours_keep_to_their_bound() -> None:
    clean = pictures()
    seen = clean + push(clean, parts="c", colour=0.03)
    moved = (_colour.from_rgb(seen.transpose(0, 1)) - _colour.from_rgb(clean.transpose(0, 1))).abs().max()
    assert 0.02 < moved <= 0.03 + 1e-4


def test_pixels_keep_to_their_reach_and_inside_the_picture() -> None:
    ramp = torch.linspace(0, 1, 16).expand(2, 3, 16, 16)  # its value is the place that a pixel comes from
    delta = push(ramp, parts="s", flow=0.1)
    assert delta.abs().max() == pytest.approx(0.1 / 2, abs=1e-5)
    assert (delta[..., 0] >= -1e-6).all() and (delta[..., -1] <= 1e-6).all()


def test_the_same_colours_of_an_image_change_alike() -> None:
    clean = pictures()
    clean[:, :, 4:] = clean[:, :, :4]
    delta = push(clean, parts="c")
    torch.testing.assert_close(delta[:, :, 4:], delta[:, :, :4], atol=1e-5, rtol=0)


@pytest.mark.parametrize("part", ["c", "s"])
def test_smoothness_draws_neighbours_together(part: str) -> None:
    clean = torch.linspace(0.3, 0.7, 16).expand(2, 3, 16, 16)

    def unevenness(smooth: float) -> Tensor:
        return push(clean, parts=part, steps=20, rate=0.002, smooth=smooth).diff(dim=-1).abs().mean()

    assert unevenness(2.0) < 0.7 * unevenness(0.0)


def test_a_cap_holds_and_is_reckoned_with() -> None:
    clean, weights = pictures(), torch.randn((3, 3, 8, 8), generator=torch.Generator().manual_seed(10))
    params = functional.Params(steps=10, rate=0.01)
    delta = functional.learn(lambda seen: (seen * weights).sum((1, 2, 3)), clean, params, 4 / 255)
    assert delta.abs().max() * 255 == pytest.approx(4, abs=1e-3)
    assert (delta * weights).sum() < 0


def misread(**changes: Any) -> tuple[Tensor, Tensor, Tensor]:
    """What a small network reads 12 images as, after the attack: outputs, what they should be, what they were."""
    learned, where = separable(60, contrast=15), context(levels=255)
    params = functional.Params(net="small", steps=10, rate=0.01, **changes)
    state = functional.fit(learned, params, where)
    (net,) = _surrogates.unpack(state, where)
    data = take(learned, list(range(12)))
    wanted = _surrogates.outputs(data.labels, state, where, rename=state["targets"].__getitem__)
    assert train.accuracy(net, data.images, data.labels) == 1
    delta = functional.delta(data, state, params, where)
    seen = (data.images.float() + (delta * 255).round()).clamp(0, 255).byte()
    return train.predict(net, seen).argmax(1), wanted, data.labels


@pytest.mark.parametrize("parts", ["c", "s", "csd"])
def test_most_images_are_read_as_their_target(parts: str) -> None:
    read, wanted, _ = misread(parts=parts, targeted=True)
    assert (read == wanted).float().mean() > 0.8


def test_untargeted_images_are_no_longer_read_as_their_class() -> None:
    read, _, own = misread()
    assert (read == own).float().mean() < 0.1


def test_a_loss_that_is_no_number_names_the_image() -> None:
    data, where = take(separable(4), [0, 1]), context()
    (net,), _ = surrogate(separable(6), "small", epochs=1)
    state = _surrogates.pack([net], "small", where, targets={name: name for name in where.classes})
    state["weights"][0]["head.weight"].fill_(torch.inf)
    with pytest.raises(TrainingError, match=r"functional: the loss of train/0-0.png was not finite"):
        functional.delta(data, state, functional.Params(net="small", steps=2), where)


@pytest.mark.parametrize("name", ["parts", "steps", "rate", "colour", "flow", "levels", "smooth", "batch"])
def test_ranges(name: str) -> None:
    for wrong in ("", "sc", "x", "cc") if name == "parts" else (-1, 20_000) if name == "steps" else (-1,):
        with pytest.raises(ValueError, match=name):
            functional.Params(**{name: wrong})  # type: ignore[arg-type]

"""Networks by name: shapes, stems that keep the resolution, seeds, weights of any origin, and what is refused."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from sources.hub_server import serving
from torch import nn
from torch.nn import functional as F
from torchvision import models

from unlearnable import nets, registry
from unlearnable.errors import HubError, UsageError
from unlearnable.nets import _drop, _torchvision
from unlearnable.poisons import _surrogates
from unlearnable.train import Recipe, predict, train
from unlearnable.verification import plan

CURATED = registry.names("nets")
OTHERS = ["regnet_x_400mf", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t"]
IMAGENET = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


@cache
def net(spec: str, size: int = 16) -> nets.Network:
    """One instance for all tests that only look at it."""
    return nets.create(spec, 5, size, seed=0)


def images(count: int, size: int = 16) -> torch.Tensor:
    return torch.rand((count, 3, size, size), generator=torch.Generator().manual_seed(count))


def map_side(network: nets.Network, size: int) -> int:
    """Side of the last feature map before pooling; of a transformer, of its map of tokens."""
    if isinstance(network.body, models.VisionTransformer):
        return network.body.image_size // network.body.patch_size
    seen: list[int] = []
    hooks = [
        part.register_forward_hook(lambda part, given, out: seen.append(out.shape[-1]))
        for part in network.modules()
        if isinstance(part, nn.Conv2d)
    ]
    with torch.no_grad():
        network.eval()(images(1, size))
    for hook in hooks:
        hook.remove()
    return seen[-1]


# --- shapes and stems ---


@pytest.mark.parametrize("name", [*CURATED, *OTHERS])
def test_a_network_gives_logits_features_and_gradients_in_both_modes(name: str) -> None:
    network, x = net(name), images(2).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.no_grad():
            alone = network.eval()(x[:1])
        logits = network.train()(x)
    assert (alone.shape, logits.shape) == ((1, 5), (2, 5)) and alone.isfinite().all()
    loss = F.cross_entropy(logits.float(), torch.tensor([0, 1]))
    gradients = torch.autograd.grad(loss, [x, next(network.parameters()), network.head.weight])
    assert all(g.isfinite().all() and g.abs().max() > 0 for g in gradients)
    assert gradients[0].abs().amax((1, 2, 3)).min() > 0, "every image has one"


@pytest.mark.parametrize(("name", "side"), [*((n, 4) for n in CURATED if n != "linear"), ("regnet_x_400mf", 2)])
def test_an_image_of_32_pixels_keeps_a_useful_map(name: str, side: int) -> None:
    """The same layers serve all small images, so the network made for 16 pixels is measured."""
    assert map_side(net(name), 32) >= side


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121", "efficientnet_b0"])
def test_the_rule_for_other_networks_finds_what_curated_files_name(name: str) -> None:
    strides = {key: getattr(part, "stride", 0) for key, part in net(name).body.named_modules()}
    with torch.random.fork_rng(devices=[]):
        ruled, features, side = _torchvision.body(name, 16, pretrained=False)
    assert (features, side) == (net(name).head.in_features, 16)
    assert strides == {key: getattr(part, "stride", 0) for key, part in ruled.named_modules() if key in strides}


@pytest.mark.parametrize("name", ["efficientnet_b0", "vit_small", "squeezenet1_1", "linear"])
@pytest.mark.parametrize("size", [8, 27, 65])
def test_sizes_that_sources_have(name: str, size: int) -> None:
    network = nets.create(name, 3, size, seed=0).eval()
    with torch.no_grad():
        assert network(images(2, size)).shape == (2, 3)


def test_too_small_for_a_network_is_said_with_its_smallest() -> None:
    with pytest.raises(UsageError, match=r"alexnet cannot take images of 8 pixels.*smallest is 15"):
        nets.create("alexnet", 3, 8, seed=0)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121", "efficientnet_b0", "googlenet"])
def test_photos_meet_torchvisions_own_network(name: str) -> None:
    """Body and head together have the weights of torchvision's network of as many classes, and the same layers."""
    ours = nets.create(name, 5, 224, seed=0)
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    theirs = models.get_model(name, weights=None, num_classes=5, **options)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    assert all(shapes[key] == value.shape for key, value in ours.body.state_dict().items())


def test_the_resnets_of_the_literature_have_the_known_size() -> None:
    """11.17 million weights with ten classes: Kuang Liu's CIFAR ResNet-18."""
    assert sum(p.numel() for p in nets.create("resnet18", 10, 32, seed=0).parameters()) == 11_173_962


# --- seeds ---


@pytest.mark.parametrize("name", ["small", "vit_small", "mobilenet_v2"])
def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_generator_alone(name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = (nets.create(name, 3, 16, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    convolution = next(key for key, value in first.items() if value.dim() == 4 and key.startswith("body"))
    assert not torch.equal(first[convolution], other[convolution])


def test_dropout_of_one_seed_repeats_whatever_else_draws() -> None:
    pictures, labels = (images(12, 8) * 255).byte(), torch.arange(12) % 3
    losses = []
    for disturbance in (0, 1):
        torch.manual_seed(disturbance)
        network = nets.create("efficientnet_b0", 3, 8, seed=4)
        assert [part for part in network.modules() if isinstance(part, _drop.Drop)]
        losses.append(train(network, pictures, labels, Recipe(1, 6), seed=4).train_loss)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("whole", [False, True])
def test_drop_is_dropout(whole: bool) -> None:
    drop, x = _drop.Drop(0.25, seed=3, whole=whole), torch.ones(4000, 2, 3, 1)
    out = drop(x)
    assert out.unique().tolist() == [0.0, pytest.approx(4 / 3)] and out.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(out, out[:, :1, :1].expand_as(out)) == whole, "a whole image, or each value by itself"
    assert torch.equal(drop.eval()(x), x)


# --- resizing ---


@pytest.mark.parametrize(("size", "side"), [(5, 16), (32, 128), (20, 7)])
def test_resizing_is_bilinear(size: int, side: int) -> None:
    matrix, x = nets._resizing(size, side), images(2, size)
    plain = F.interpolate(x, size=(side, side), mode="bilinear", antialias=side < size)
    torch.testing.assert_close(matrix @ x @ matrix.T, plain, atol=1e-5, rtol=0)


# --- folding batch normalisation, as crafting does ---


@pytest.mark.parametrize("name", [n for n in CURATED if n != "vit_b_16"])  # which is vit_small's class, and large
def test_a_folded_network_is_the_same_function(name: str) -> None:
    network = net(name)
    body = network.body
    with torch.no_grad():
        network.train()(images(4))  # running statistics of its own
        before = network.eval()(images(3))
        try:
            after = _surrogates._fused(network)(images(3))
            left = [part for part in network.body.modules() if isinstance(part, nn.BatchNorm2d)]
            kernels = [p for p in network.body.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1]
        finally:
            network.body = body
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-3)
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    # `small` normalises after its pools, and a DenseNet before its convolutions too: those cannot be folded
    assert not left or name in ("small", "tiny", "densenet121")


# --- weights ---


@cache
def published() -> dict[str, torch.Tensor]:
    """What torchvision would publish for MobileNetV2, its last layer included."""
    torch.manual_seed(5)
    network = models.mobilenet_v2(weights=None)
    network.train()(torch.rand(4, 3, 64, 64))
    return {key: value.clone() for key, value in network.state_dict().items()}


def saved(path: Path, state: object = None) -> Path:
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(published(), path)
    else:
        torch.save(published() if state is None else state, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_weights_from_a_file_are_torchvisions_network_on_enlarged_images(tmp_path: Path, suffix: str) -> None:
    spec = f"mobilenet_v2@{saved(tmp_path / f'w{suffix}')}"
    network = nets.create(spec, 5, 32, seed=0)
    theirs = models.mobilenet_v2(weights=None)
    theirs.load_state_dict(published())
    theirs.classifier[1] = nn.Identity()
    x, (mean, std) = images(2, 32), IMAGENET
    large = F.interpolate(x, size=(_torchvision.ENLARGED,) * 2, mode="bilinear")
    with torch.no_grad():
        expected = theirs.eval()((large - mean) / std)
        torch.testing.assert_close(network.eval().features(x), expected, atol=1e-4, rtol=1e-3)
    network.normalise_for((x * 255).byte())
    assert torch.equal(network.mean[0], mean), "weights fit ImageNet's normalisation alone"
    assert network.pretrained and network.learning_rate == nets.learning_rate(spec) == nets.FINE_TUNING


def test_a_kept_state_needs_no_weights_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt")
    network = nets.create(f"mobilenet_v2@{path}", 5, 16, seed=1).eval()
    path.unlink()
    again = nets.create(f"mobilenet_v2@{path}", 5, 16, seed=9, weights=False).eval()
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(again(images(2, 16)), network(images(2, 16)))
    assert again.pretrained


def test_a_frozen_body_never_moves_and_its_head_learns(tmp_path: Path) -> None:
    network = nets.create(f"frozen:mobilenet_v2@{saved(tmp_path / 'w.pt')}", 3, 8, seed=0)
    network.requires_grad_(True)  # as crafting does between its rounds
    before = {key: value.clone() for key, value in network.state_dict().items()}
    train(network, (images(12, 8) * 255).byte(), torch.arange(12) % 3, Recipe(2, 6), seed=0)
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before if not key.startswith("head"))
    assert not torch.equal(before["head.weight"], after["head.weight"])
    x = images(1, 8).requires_grad_()
    assert torch.autograd.grad(network(x).sum(), x)[0].abs().max() > 0, "attacks see through it"


def test_densenets_old_names_are_read(tmp_path: Path) -> None:
    state = models.densenet121(weights=None).state_dict()
    old = {key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): value for key, value in state.items()}
    old = {key: value for key, value in old.items() if not key.endswith("num_batches_tracked")}
    network = nets.create(f"densenet121@{saved(tmp_path / 'w.pth', old)}", 3, 224, seed=0)
    key = "features.denseblock1.denselayer1.conv2.weight"
    assert key not in old and torch.equal(network.body.state_dict()[key], state[key])


def changed(state: dict[str, torch.Tensor], **changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    out = dict(state) | {key: value for key, value in changes.items() if value is not None}
    return {key: value for key, value in out.items() if key not in changes or changes[key] is not None}


FIRST = "features.0.0.weight"
WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "lacks a tensor": (lambda: changed(published(), **{FIRST: None}), f"lacks 1 tensors .* {FIRST}"),
    "another shape": (
        lambda: changed(published(), **{FIRST: torch.zeros(32, 3, 5, 5)}),
        "32x3x5x5 there, 32x3x3x3 here",
    ),
    "more layers": (
        lambda: changed(published(), **{"features.30.weight": torch.zeros(1)}),
        r"has features\.30\.weight",
    ),
    "no numbers": (lambda: changed(published(), **{FIRST: torch.full((32, 3, 3, 3), torch.nan)}), "is damaged"),
    "another network": (lambda: models.squeezenet1_1(weights=None).state_dict(), "lacks"),
    "nested": (lambda: {"state_dict": published()}, "something else than tensors"),
    "a whole network": (lambda: nn.Linear(2, 2), "code in it was not run"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path, wrong: str) -> None:
    make, words = WRONG[wrong]
    path = saved(tmp_path / "mine.pt", make())
    with pytest.raises(UsageError, match=words) as found:
        nets.create(f"mobilenet_v2@{path}", 3, 16, seed=0)
    assert str(path) in found.value.message and "\n" not in found.value.message


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_damaged_files_are_refused_wherever_they_are_cut(tmp_path: Path, suffix: str) -> None:
    whole = saved(tmp_path / f"whole{suffix}").read_bytes()
    path = tmp_path / f"cut{suffix}"
    for part in (0, 1, 7, 8, 100, 5_000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:part])
        with pytest.raises(UsageError, match="cut"):
            nets._weights.read(path)
    path.write_bytes(b"no weights at all, only text")
    with pytest.raises(UsageError, match="cut"):
        nets._weights.read(path)


def trained(name: str, classes: int = 3, size: int = 16) -> nets.Network:
    """A network of this program that has seen pictures: its normalisation and last layer are its own."""
    network = nets.create(name, classes, size, seed=7)
    network.normalise_for((images(40, size) * 99).byte())
    with torch.no_grad():
        network.head.weight.mul_(2)
    return network.eval()


def kept(network: nets.Network, path: Path) -> Path:
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(nets.weights_of(network), path)
    else:
        torch.save(network.state_dict(), path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("name", ["small", "tiny", "vit_small", "linear"])
def test_this_programs_own_networks_start_from_their_weights(name: str, suffix: str, tmp_path: Path) -> None:
    before = trained(name)
    spec = f"{name}@{kept(before, tmp_path / f'w{suffix}')}"
    registry.require_network(spec)
    network, x = nets.create(spec, 3, 16, seed=0).eval(), images(4)
    network.normalise_for((x * 255).byte())
    with torch.no_grad():
        assert torch.equal(network(x), before(x)), "with its normalisation and its last layer"
    assert network.pretrained and network.learning_rate == nets.learning_rate(spec) == nets.FINE_TUNING
    assert registry.network(spec).shown == f"{name}@w{suffix}"


@pytest.mark.parametrize("name", ["small", "vit_small"])
def test_a_last_layer_of_other_classes_begins_anew(name: str, tmp_path: Path) -> None:
    before = trained(name)
    path, x = kept(before, tmp_path / "w.pt"), images(4)
    network, fresh = (nets.create(f"{name}{weights}", 5, 16, seed=4).eval() for weights in (f"@{path}", ""))
    with torch.no_grad():
        assert torch.equal(network.features(x), before.features(x)) and network(x).shape == (4, 5)
    assert torch.equal(network.head.weight, fresh.head.weight)
    body = {key.removeprefix("body."): value for key, value in before.state_dict().items() if key.startswith("body.")}
    alone = nets.create(f"{name}@{saved(tmp_path / 'body.pt', body)}", 3, 16, seed=4)
    assert torch.equal(alone.mean[0], IMAGENET[0]), "a body alone says nothing of normalisation"


def test_a_frozen_network_of_this_program_trains_its_last_layer_alone(tmp_path: Path) -> None:
    network = nets.create(f"frozen:tiny@{kept(trained('tiny'), tmp_path / 'w.pt')}", 3, 16, seed=0)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    train(network, (images(12) * 255).byte(), torch.arange(12) % 3, Recipe(1, 6), seed=0)
    moved = {key for key, value in network.state_dict().items() if not torch.equal(before[key], value)}
    assert moved == {"head.weight", "head.bias"}


def test_own_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    small = kept(trained("small"), tmp_path / "small.pt")
    with pytest.raises(UsageError, match=r"small\.pt lacks 78 tensors of the network, such as class_token"):
        nets.create(f"vit_small@{small}", 3, 16, seed=0)
    with pytest.raises(UsageError, match=r"small\.pt lacks .*\."):
        nets.create(f"small@{small}", 3, 80, seed=0)  # has a layer more in front
    linear = kept(trained("linear"), tmp_path / "linear.pt")
    with pytest.raises(UsageError, match="a last layer of 3 classes, 4 here, and no other"):
        nets.create(f"linear@{linear}", 4, 16, seed=0)
    with pytest.raises(UsageError, match="no last layer called head"):
        nets.create(f"linear@{saved(tmp_path / 'other.pt')}", 3, 16, seed=0)
    state = trained("tiny").state_dict() | {"std": torch.full((1, 3, 1, 1), torch.nan)}
    with pytest.raises(UsageError, match="is damaged: std"):
        nets.create(f"tiny@{saved(tmp_path / 'nan.pt', state)}", 3, 16, seed=0)


# --- weights from elsewhere ---


def test_weights_from_the_hub_and_what_it_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "repo" / "sub").mkdir(parents=True)
    saved(tmp_path / "repo" / "sub" / "w.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def made(address: str) -> nets.Network:
        return nets.create(f"mobilenet_v2@{address}", 3, 16, seed=0)

    with serving("owner/nets", tmp_path / "repo") as address:
        # the server keeps its one repository under /datasets, where for the client models begin at the root
        template = f"{address}/datasets/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        online = made("hf://owner/nets/sub/w.safetensors")
        with pytest.raises(HubError, match=r"owner/nets has no other\.pt"):
            made("hf://owner/nets/other.pt")
        with pytest.raises(HubError, match="no owner/else on the Hub"):
            made("hf://owner/else/w.pt")
    assert torch.equal(online.body.state_dict()[FIRST], published()[FIRST])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="could not be reached") as found:
        made("hf://owner/nets/fresh.pt")
    assert found.value.exit_code == 6
    cached = made("hf://owner/nets/sub/w.safetensors")
    assert torch.equal(cached.body.state_dict()[FIRST], published()[FIRST]), "what was fetched once stays"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A plain server of tmp_path/www."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    (tmp_path / "www").mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "www")))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_torchvisions_own_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import hashlib

    data = saved(tmp_path / "w.pth").read_bytes()
    file = f"w-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    (tmp_path / "www" / file).write_bytes(data)
    (tmp_path / "www" / "w-00000000.pth").write_bytes(data)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))

    def made(file: str) -> dict[str, torch.Tensor]:
        monkeypatch.setattr(type(models.MobileNet_V2_Weights.DEFAULT), "url", f"{address}/{file}")
        return nets._weights.get(registry.network("mobilenet_v2@DEFAULT"))

    assert torch.equal(made(file)[FIRST], published()[FIRST])
    (tmp_path / "www" / file).unlink()
    assert torch.equal(made(file)[FIRST], published()[FIRST]), "what was fetched once stays"
    for missing in ("w-00000000.pth", "nothing.pth"):
        with pytest.raises(HubError, match="mobilenet_v2@DEFAULT could not be fetched") as found:
            made(missing)
        assert "mobilenet_v2@FILE" in found.value.hint
    assert not capsys.readouterr().out, "stdout is for results"


# --- specs ---


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("resnet81", "no network called 'resnet81'.*Did you mean 'resnet18'"),
        ("wide_resnet51_2", "Did you mean 'wide_resnet50_2'.*every classification network of torchvision"),
        ("deeplabv3_resnet50", "no network called"),
        ("_torchvision", "no network called"),
        ("", "no network called ''"),
        ("resnet18@", "names no weights"),
        ("frozen:resnet18", "names no weights.*frozen:resnet18@FILE"),
        ("small@DEFAULT", "no weights of it are published.*small@FILE"),
        ("tiny@nowhere/w.pt", "no file nowhere/w.pt"),
        ("resnet18@nowhere/w.pt", "no file nowhere/w.pt"),
        ("resnet18@IMAGENET", "no weights 'IMAGENET' of resnet18.*Did you mean 'IMAGENET1K_V1'"),
        ("resnet18@hf://owner/w.pt", "no file of weights on the Hub"),
        ("resnet18@hf://owner/name/w.bin", "no file of weights on the Hub"),
    ],
)
def test_a_spec_that_cannot_be_met_is_refused_before_any_work(spec: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        registry.require_network(spec)


def test_specs_are_read_and_shown_without_folders() -> None:
    spec = registry.network("frozen:resnet34@/home/me/secret/w@2.pt")
    assert (spec.name, spec.weights, spec.frozen) == ("resnet34", "/home/me/secret/w@2.pt", True)
    assert spec.shown == "frozen:resnet34@w@2.pt"
    assert registry.network("resnet18@hf://o/n/w.pt").shown == "resnet18@hf://o/n/w.pt"
    assert registry.hub_file("hf://o/n@v1/a/w.pt") == ("o/n", "v1", "a/w.pt")
    registry.require_network("efficientnet_v2_s@DEFAULT")


def test_a_verification_fine_tunes_what_starts_from_weights() -> None:
    rates = [plan.make("paper", 1000, victim=spec).recipe.learning_rate for spec in ("resnet18", "resnet18@DEFAULT")]
    assert rates == [0.1, 0.01]


def test_every_network_of_torchvision_is_a_name() -> None:
    assert all(registry.network(name).name == name for name in models.list_models(module=models))


def test_a_linear_probe_learns_from_pixels() -> None:
    """At the networks' learning rate its loss must not blow up."""
    labels = torch.arange(60) % 3
    pictures = (images(60, 32) * 60 + 60 * labels.view(-1, 1, 1, 1)).byte()
    network = nets.create("linear", 3, 32, seed=0)
    history = train(network, pictures, labels, Recipe(6, 12, augment="none"), seed=0)
    assert history.train_loss[-1] < 0.5 and (predict(network, pictures).argmax(1) == labels).double().mean() > 0.9

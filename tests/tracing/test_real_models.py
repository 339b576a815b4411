"""ONNX files, read by onnxruntime, and timm's networks answer as the network that was saved; each where it is installed."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from made_pictures import write_tree
from safetensors.torch import save_file
from sources.hub_server import serving
from torch import Tensor, nn

import unlearnable
from cli import cli
from release.hashing import sha256
from unlearnable import Options
from unlearnable.errors import HubError, UsageError
from unlearnable.tracing.answers import Names
from unlearnable.tracing.models import NORMALISATIONS, Seen, open_model

CLASSES = ("across", "down", "rising")
NAMES = Names(CLASSES)
SEEN = Seen(native=16)
SIDE = 16


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (7, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def mean_of_colours(images: Tensor) -> Tensor:
    """What the networks of `graph` answer."""
    return (images.double() / 255).mean((2, 3)).softmax(1)


def graph(path: Path, shape: list[Any], kind: str = "FLOAT", *, beside: str = "", inputs: int = 1) -> str:
    """An ONNX file whose logits are the mean of each colour; `beside` names a file of its own for what it has learned."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, numbers = onnx.helper, onnx.TensorProto
    asked = [helper.make_tensor_value_info(f"x{n}", getattr(numbers, kind), shape) for n in range(inputs)]
    colours_last = shape[-1] == 3
    eye = torch.eye(3 if colours_last else shape[1]) / (255 if kind == "UINT8" else 1)
    nodes = [
        helper.make_node("Cast", ["x0"], ["float"], to=numbers.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "eye"], ["logits"]),
    ]
    axes = helper.make_tensor("axes", numbers.INT64, [2], [1, 2] if colours_last else [2, 3])
    out = helper.make_tensor_value_info("logits", numbers.FLOAT, [shape[0], len(eye)])
    learned = [axes, onnx.numpy_helper.from_array(eye.numpy(), "eye")]
    made = helper.make_graph(nodes, "colours", asked, [out], learned)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save_model(model, str(path), save_as_external_data=bool(beside), location=beside or None, size_threshold=0)
    return str(path)


@pytest.mark.parametrize(
    ("shape", "kind", "close"),
    [
        (["n", 3, "h", "w"], "FLOAT", 1e-6),
        ([1, 3, SIDE, SIDE], "FLOAT", 1e-6),
        ([4, 3, SIDE, SIDE], "FLOAT", 1e-6),
        (["n", 3, SIDE, SIDE], "FLOAT16", 1e-3),
        (["n", 3, SIDE, SIDE], "DOUBLE", 1e-6),
        (["n", SIDE, SIDE, 3], "FLOAT", 1e-6),
        (["n", 3, SIDE, SIDE], "UINT8", 1e-6),
    ],
    ids=["free", "one", "four", "half", "double", "colours-last", "grey-levels"],
)
def test_an_onnx_file_is_given_pictures_as_it_takes_them(
    tmp_path: Path, images: Tensor, shape: list[Any], kind: str, close: float
) -> None:
    model = open_model(graph(tmp_path / "m.onnx", shape, kind), NAMES, SEEN)
    assert model.gives == "probabilities" and model.white is None and model.shown == "m.onnx"
    answers = model.ask(images)
    assert answers.probabilities is not None and answers.probabilities.shape == (7, 3)
    assert torch.allclose(answers.probabilities, mean_of_colours(images), atol=close)


def test_an_onnx_file_says_its_own_side(tmp_path: Path, images: Tensor) -> None:
    fixed = graph(tmp_path / "m.onnx", ["n", 3, 40, 40])
    assert torch.allclose(open_model(fixed, NAMES, SEEN).ask(images).probabilities, mean_of_colours(images), atol=0.01)
    with pytest.raises(UsageError, match="pictures of 40 by 40 pixels, not of 32") as why:
        open_model(fixed, NAMES, Seen(32, SIDE)).ask(images)
    assert "Leave out --size" in why.value.hint


@pytest.mark.parametrize(
    ("shape", "kind", "inputs", "said"),
    [
        (["n", 3, 16, 16], "FLOAT", 2, r"takes x0 tensor\(float\) .*, x1 .*, not pictures of three colours alone"),
        (["n", 1, 16, 16], "FLOAT", 1, r"\['n', 1, 16, 16\], not pictures"),
        (["n", 3, 16, 16], "INT32", 1, r"tensor\(int32\) .*, not pictures"),
        (["n", 3, 16, 24], "FLOAT", 1, "not square"),
    ],
    ids=["two", "one-colour", "integers", "oblong"],
)
def test_an_onnx_file_that_takes_something_else_is_one_sentence(
    tmp_path: Path, images: Tensor, shape: list[Any], kind: str, inputs: int, said: str
) -> None:
    model = open_model(graph(tmp_path / "m.onnx", shape, kind, inputs=inputs), NAMES, SEEN)
    with pytest.raises(UsageError, match=said):
        model.ask(images)


def test_grey_levels_are_not_normalised(tmp_path: Path, images: Tensor) -> None:
    made = graph(tmp_path / "m.onnx", ["n", 3, SIDE, SIDE], "UINT8")
    with pytest.raises(UsageError, match="takes grey levels"):
        open_model(made, NAMES, Seen(native=SIDE, normalise="imagenet")).ask(images)


def test_weights_beside_an_onnx_file_belong_to_it(tmp_path: Path, images: Tensor) -> None:
    name = "learned-" + "x" * 130  # its length takes two bytes in the file
    spec = graph(tmp_path / "m.onnx", ["n", 3, SIDE, SIDE], beside=name)
    model = open_model(spec, NAMES, SEEN)
    assert torch.allclose(model.ask(images).probabilities, mean_of_colours(images), atol=1e-6)
    assert model.files == (tmp_path / "m.onnx", tmp_path / name)
    (tmp_path / name).unlink()
    with pytest.raises(UsageError, match=f"m.onnx has its weights in {name}, which is not beside it"):
        open_model(spec, NAMES, SEEN)


def test_a_damaged_onnx_file_is_one_sentence(tmp_path: Path) -> None:
    whole = Path(graph(tmp_path / "m.onnx", ["n", 3, SIDE, SIDE])).read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2]):
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(UsageError, match=r"m\.onnx cannot be read as ONNX"):
            open_model(str(tmp_path / "m.onnx"), NAMES, SEEN)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


@pytest.mark.slow
def test_what_torch_exports_is_traced_to_signed_evidence(tmp_path: Path, images: Tensor) -> None:
    """torch.onnx.export, onnxruntime and `unlearnable trace`, none of them made up."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    net = Small().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.rand(2, 3, SIDE, SIDE),), tmp_path / "m.onnx", external_data=True, verbose=False)
        torch.jit.trace(net, torch.rand(2, 3, SIDE, SIDE)).save(str(tmp_path / "m.pt"))
    with torch.no_grad():
        wanted = net(images / 255).softmax(1).double()
    assert torch.allclose(open_model(f"{tmp_path}/m.onnx", NAMES, SEEN).ask(images).probabilities, wanted, atol=1e-5)
    source = write_tree(tmp_path / "pictures", each=10)
    unlearnable.protect(str(source), tmp_path / "out", Options(preset="r16", verify="none"))
    asked = ["trace", f"{tmp_path}/out", "--model", f"{tmp_path}/m.onnx", "--decoys", "19", "--images", "5", "--json"]
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    digests = {name: sha256(tmp_path / name) for name in ("m.onnx", "m.onnx.data")}
    assert said["model"]["files"] == digests and said["model"]["sha256"] == digests["m.onnx"]
    assert said["queries"] == 100 and said["primary"]["test"] == "key"
    script = unlearnable.trace(tmp_path / "out", f"{tmp_path}/m.pt", decoys=19, images=5)
    assert said["primary"]["statistic"] == pytest.approx(script["primary"]["statistic"], abs=1e-5), "the same network"
    page = (Path(said["evidence"]) / "report.html").read_text()
    assert all(digest in page for digest in digests.values())


# tiny ones of timm's own: its last layer has another name in each, and two of them want other pictures than ImageNet's
TIMM = {"test_vit": "half", "test_convnext": "half", "test_efficientnet": "imagenet"}


def expected(net: nn.Module, images: Tensor, normalisation: str) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in NORMALISATIONS[normalisation])
    with torch.no_grad():
        return net.eval()((images / 255 - mean) / std).softmax(1).double()


@pytest.fixture
def timm_net() -> Callable[..., nn.Module]:
    timm = pytest.importorskip("timm")

    def made(name: str, **options: Any) -> nn.Module:
        torch.manual_seed(0)
        net: nn.Module = timm.create_model(name, pretrained=False, num_classes=3, **options)
        return net

    return made


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", TIMM)
def test_a_timm_checkpoint_answers_as_its_network_and_shows_its_inside(
    tmp_path: Path, timm_net: Callable[..., nn.Module], name: str, suffix: str
) -> None:
    net = timm_net(name)
    state = {key: value.contiguous() for key, value in net.state_dict().items()}
    (save_file if suffix == ".safetensors" else torch.save)(state, tmp_path / f"m{suffix}")
    images = torch.randint(0, 256, (3, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    model = open_model(f"timm:{name}@{tmp_path}/m{suffix}", NAMES, Seen(native=64))
    assert model.gives == "weights" and model.shown == f"timm:{name}@m{suffix}" and len(model.files) == 1
    assert torch.allclose(model.ask(images).probabilities, expected(net, images, TIMM[name]), atol=1e-5)
    assert model.white is not None and model.white.rows == (0, 1, 2)
    last = net.get_classifier()  # type: ignore[operator]
    logits = model.white.features(images).float() @ model.white.weight.float().T + last.bias.detach()
    assert torch.allclose(logits.softmax(1).double(), model.ask(images).probabilities, atol=1e-5)


def test_a_model_as_timm_puts_it_on_the_hub_is_opened_from_its_folder(
    tmp_path: Path, images: Tensor, timm_net: Callable[..., nn.Module]
) -> None:
    from timm.models import save_for_hf

    net = timm_net("test_vit", img_size=SIDE, patch_size=4)
    said = {"label_names": ["rising", "down", "across"]}
    save_for_hf(net, str(tmp_path / "safe"), model_config=said, safe_serialization=True)
    save_for_hf(net, str(tmp_path / "pickled"), model_config=said)
    for folder, weights in (("safe", "model.safetensors"), ("pickled", "pytorch_model.bin")):
        model = open_model(f"timm:{tmp_path}/{folder}", NAMES, SEEN)
        assert model.shown == f"timm:{folder}" and [path.name for path in model.files] == [weights, "config.json"]
        in_order = expected(net, images, "half").flip(1)  # config.json says which output is which class
        assert torch.allclose(model.ask(images).probabilities, in_order, atol=1e-5)
    named = open_model(f"timm:{tmp_path}/safe", Names(CLASSES, CLASSES), SEEN)
    assert torch.allclose(named.ask(images).probabilities, expected(net, images, "half"), atol=1e-5), "--labels wins"


def test_bad_timm_input_is_one_sentence(tmp_path: Path, timm_net: Callable[..., nn.Module]) -> None:
    net = timm_net("test_efficientnet")
    torch.save(net.state_dict(), tmp_path / "m.pth")
    torch.save({"epoch": 3, "state_dict": net.state_dict()}, tmp_path / "training.pth")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    config = theirs / "config.json"
    config.write_text('{"architectures": ["ViTForImageClassification"]}')
    (tmp_path / "empty").mkdir()
    for spec, said in (
        (f"timm:test_efficientne@{tmp_path}/m.pth", "no network called 'test_efficientne'. Did you mean"),
        (f"timm:test_vit@{tmp_path}/m.pth", r"m.pth does not fit test_vit: it has no head.weight"),
        (f"timm:test_efficientnet@{tmp_path}/none.pth", "There is no file"),
        (f"timm:test_efficientnet@{tmp_path}/training.pth", r'tensors by name.*checkpoint\["state_dict"\]'),
        ("timm:test_efficientnet", "is no folder, and names no weights"),
        (f"timm:{tmp_path}/empty", "timm:empty has no config.json"),
        (f"timm:{theirs}", r"is of transformers \(ViTForImageClassification\)"),
        ("timm:hf://OWNER", "is no model on the Hub"),
    ):
        with pytest.raises(UsageError, match=said):
            open_model(spec, NAMES, SEEN)
    shutil.copy(tmp_path / "m.pth", theirs / "pytorch_model.bin")
    for name, args, said in (
        ("test_efficientne", {}, "no network called 'test_efficientne'"),
        ("test_vit", {"num_classes": 3}, r'pytorch_model\.bin does not fit theirs: Missing .*" and others'),
        ("test_vit", {"no_such": 3}, "timm cannot make test_vit: .*no_such"),
        ("test_vit", [3], "timm cannot make test_vit"),
    ):
        config.write_text(json.dumps({"architecture": name, "model_args": args, "pretrained_cfg": {}}))
        with pytest.raises(UsageError, match=said):
            open_model(f"timm:{theirs}", NAMES, SEEN)


def test_a_config_cannot_make_timm_run_code_of_its_weights(tmp_path: Path, timm_net: Callable[..., nn.Module]) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "run",))

    folder = tmp_path / "evil"
    folder.mkdir()
    torch.save({"head.weight": Evil()}, folder / "pytorch_model.bin")
    for args in ({"checkpoint_path": f"{folder}/pytorch_model.bin"}, {"pretrained": True}, {}):
        said = {"architecture": "test_vit", "model_args": args, "pretrained_cfg": {"custom_load": True}}
        (folder / "config.json").write_text(json.dumps(said))
        with pytest.raises(UsageError):
            open_model(f"timm:{folder}", NAMES, SEEN)
        assert not (tmp_path / "run").exists()


def test_a_model_on_the_hub_is_fetched_once_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: Tensor, timm_net: Callable[..., nn.Module]
) -> None:
    from timm.models import save_for_hf

    net = timm_net("test_vit", img_size=SIDE, patch_size=4)
    save_for_hf(net, str(tmp_path / "repo"), model_config={"label_names": list(CLASSES)}, safe_serialization=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with serving("owner/net", tmp_path / "repo") as address:
        # the server keeps its one repository under /datasets, where for the client models begin at the root
        template = f"{address}/datasets/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        online = open_model("timm:hf://owner/net", NAMES, SEEN)
        with pytest.raises(HubError, match="no owner/else on the Hub"):
            open_model("timm:hf://owner/else", NAMES, SEEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for model in (online, open_model("timm:hf://owner/net", NAMES, SEEN)):
        assert model.shown == "timm:hf://owner/net" and len(model.files) == 2
        assert torch.allclose(model.ask(images).probabilities, expected(net, images, "half"), atol=1e-5)
    for spec in ("timm:hf://owner/net@v1", "timm:test_vit@hf://owner/net@v1/model.safetensors"):
        with pytest.raises(HubError, match=r"hf://owner/net@v1/model\.safetensors is not in the cache"):
            open_model(spec, NAMES, SEEN)


@pytest.mark.slow
def test_the_last_layer_is_found_whatever_order_a_file_keeps(tmp_path: Path) -> None:
    """Files of safetensors are sorted by name, and the "classifier" of a ConvNeXt comes before its "features"."""
    from torchvision.models import convnext_tiny

    torch.manual_seed(0)
    net = convnext_tiny(num_classes=3).eval()
    save_file(net.state_dict(), tmp_path / "m.safetensors")
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    model = open_model(f"convnext_tiny@{tmp_path}/m.safetensors", NAMES, Seen(native=32))
    assert torch.allclose(model.ask(images).probabilities, expected(net, images, "imagenet"), atol=1e-5)

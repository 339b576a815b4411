"""Every way to ask gives the answers that the network itself gives, and bad input gets one sentence."""

from __future__ import annotations

import base64
import csv
import io
import json
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from unlearnable import nets
from unlearnable.errors import HubError, UsageError
from unlearnable.tracing import models
from unlearnable.tracing.answers import Answers, Asking, Names, digest
from unlearnable.tracing.models import Seen, open_model
from unlearnable.tracing.models.http import AT_ONCE
from unlearnable.tracing.pictures import TABLE, Folder

CLASSES = ("cat", "cow", "dog")
NAMES = Names(CLASSES)
SEEN = Seen(native=16)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (20, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def expected(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net.eval()(x).softmax(1)


def test_a_network_of_ours_answers_as_itself_and_shows_its_inside(tmp_path: Path, images: Tensor) -> None:
    net = nets.create("tiny", 3, 16, seed=0)
    torch.save(nets.weights_of(net), tmp_path / "suspect.pt")
    model = open_model(f"tiny@{tmp_path}/suspect.pt", NAMES, SEEN)
    assert model.gives == "weights" and model.shown == "tiny@suspect.pt", "no folder of the owner's is shown"
    answers = model.ask(images)
    assert torch.allclose(answers.probabilities, expected(net, images / 255).double(), atol=1e-5)
    assert torch.equal(answers.top, answers.probabilities.argmax(1))
    assert model.white is not None and model.white.rows == (0, 1, 2)
    features = model.white.features(images).float()
    assert torch.allclose(features, net.features(images / 255), atol=1e-5)
    assert torch.equal(model.white.weight.float(), net.head.weight)


def test_a_torchvision_checkpoint_sees_imagenets_normalisation(tmp_path: Path, images: Tensor) -> None:
    from torchvision.models import mobilenet_v3_small as network
    from torchvision.models import squeezenet1_1 as without_linear

    torch.manual_seed(0)
    net = network(num_classes=3).eval()
    torch.save(net.state_dict(), tmp_path / "m.pth")
    model = open_model(f"mobilenet_v3_small@{tmp_path}/m.pth", NAMES, Seen(size=32, native=16))
    x = torch.nn.functional.interpolate(images / 255, size=(32, 32), mode="bilinear", antialias=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (x - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    assert torch.allclose(model.ask(images).probabilities, expected(net, x).double(), atol=1e-5)
    with pytest.raises(UsageError, match="does not fit resnet18"):
        open_model(f"resnet18@{tmp_path}/m.pth", NAMES, SEEN)
    torch.save(without_linear(num_classes=3).state_dict(), tmp_path / "s.pth")
    with pytest.raises(UsageError, match="no last layer"):
        open_model(f"squeezenet1_1@{tmp_path}/s.pth", NAMES, SEEN)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "run",))

    torch.save({"fc.weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UsageError, match="code in it was not run"):
        open_model(f"resnet18@{tmp_path}/evil.pt", NAMES, SEEN)
    assert not (tmp_path / "run").exists()


def test_a_torchscript_file_answers_as_its_network(tmp_path: Path, images: Tensor) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net, torch.zeros(1, 3, 16, 16)).save(str(tmp_path / "m.pt"))
    for spec in (f"{tmp_path}/m.pt", f"torchscript:{tmp_path}/m.pt"):
        model = open_model(spec, NAMES, SEEN)
        assert model.gives == "probabilities" and model.white is None
        assert torch.allclose(model.ask(images).probabilities, expected(net, images / 255).double(), atol=1e-5)
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(UsageError, match="no TorchScript file") as why:
        open_model(f"{tmp_path}/weights.pt", NAMES, SEEN)
    assert "NETWORK@weights.pt" in why.value.hint


def test_onnx_needs_onnxruntime_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"onnxruntime, which is not installed|cannot be read as ONNX"):
        open_model(f"{tmp_path}/m.onnx", NAMES, SEEN)
    with pytest.raises(UsageError, match="no file"):
        open_model(f"{tmp_path}/none.onnx", NAMES, SEEN)


def test_onnx_asks_the_session_and_reads_logits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, images: Tensor
) -> None:
    from unlearnable.tracing.models import onnx

    class Input:
        name, shape, type = "x", [1, 3, 16, 16], "tensor(float)"

    class Session:
        def get_inputs(self) -> list[Any]:
            return [Input]

        def run(self, outputs: Any, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            assert feed["x"].shape == (1, 3, 16, 16), "an export for one picture is fed one at a time"
            return [feed["x"].mean((2, 3))]

    model = onnx.Onnx("m.onnx", Session(), NAMES, SEEN)
    assert torch.allclose(model.ask(images).probabilities, (images / 255).mean((2, 3)).softmax(1).double(), atol=1e-5)


class Server(BaseHTTPRequestHandler):
    """Labels a picture by its brightest channel. `mode` and `fail` belong to the server."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((len(body["images"]), self.headers.get("Authorization")))  # type: ignore[attr-defined]
        if self.server.moved:  # type: ignore[attr-defined]
            self.send_response(302)
            self.send_header("Location", self.server.moved)  # type: ignore[attr-defined]
            self.end_headers()
            return
        if self.server.fail:  # type: ignore[attr-defined]
            self.server.fail -= 1  # type: ignore[attr-defined]
            self.send_error(503)
            return
        answers = []
        for text in body["images"]:
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))), dtype=float)
            share = pixels.mean((0, 1)) + 1
            share = share / share.sum()
            answer: dict[str, Any] = {"label": CLASSES[int(share.argmax())]}
            if self.server.mode == "probabilities":  # type: ignore[attr-defined]
                answer = {"probabilities": dict(zip(CLASSES, share.tolist(), strict=True))}
            answers.append(getattr(self, "answer", answer))
        out = json.dumps({"answers": answers if self.server.mode != "short" else []}).encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(out)

    def do_GET(self) -> None:
        self.server.followed = True  # type: ignore[attr-defined]
        self.send_error(404)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    made.mode, made.fail, made.seen = "probabilities", 0, []  # type: ignore[attr-defined]
    made.moved, made.followed = "", False  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def test_an_http_endpoint_is_asked_in_batches_with_pixels_intact(server: Any, images: Tensor) -> None:
    address = f"http://127.0.0.1:{server.server_port}/classify"
    model = open_model(address + "?token=secret", NAMES, Seen(header=("Authorization", "Bearer x")))
    assert model.gives == "probabilities" and model.shown == "http://127.0.0.1/classify", "a token is never shown"
    share = images.double().mean((2, 3)) + 1
    share = share / share.sum(1, keepdim=True)
    server.fail = 2
    answers = model.ask(images)
    assert torch.allclose(answers.probabilities, share, atol=1e-9), "tried again after two refusals"
    assert {each for _, each in server.seen} == {"Bearer x"} and max(n for n, _ in server.seen) == AT_ONCE
    server.mode = "top-1"
    top = open_model(address, NAMES, SEEN)
    assert top.gives == "top-1"
    found = top.ask(images)
    assert found.probabilities is None and torch.equal(found.top, share.argmax(1))


def test_an_http_endpoint_that_fails_is_one_sentence(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unlearnable.tracing.models.http.time.sleep", lambda seconds: None)
    address = f"http://127.0.0.1:{server.server_port}/classify"
    server.mode = "short"
    with pytest.raises(UsageError, match="no answer for each of 1 pictures"):
        open_model(address, NAMES, SEEN)
    server.mode = "probabilities"
    for said in ([0.5], {"cat": "much"}, {"cat": None}):
        monkeypatch.setattr(Server, "answer", {"probabilities": said}, raising=False)
        with pytest.raises(UsageError, match="gave probabilities that are none"):
            open_model(address, NAMES, SEEN)
    with pytest.raises(UsageError, match="is no address"):
        open_model("http://[", NAMES, SEEN)
    server.fail = 99
    with pytest.raises(HubError, match="HTTP 503"):
        open_model(address, NAMES, SEEN)
    with pytest.raises(HubError, match="cannot be reached"):
        open_model("http://127.0.0.1:9/", NAMES, SEEN)


def test_a_token_goes_nowhere_but_to_the_address_that_was_given(server: Any) -> None:
    server.moved = f"http://127.0.0.1:{server.server_port}/elsewhere"
    with pytest.raises(HubError, match="HTTP 302"):
        open_model(f"http://127.0.0.1:{server.server_port}/", NAMES, Seen(header=("Authorization", "Bearer x")))
    assert len(server.seen) == 1 and not server.followed


def test_queries_written_out_and_answered_by_hand_come_back_as_answers(tmp_path: Path, images: Tensor) -> None:
    folder = Folder(tmp_path / "queries", CLASSES)
    assert (folder.ask(images).top == -1).all()
    folder.ask(images[:3])
    assert folder.finish() == len(images), "the same picture is asked once"
    table = tmp_path / "queries" / TABLE
    rows = list(csv.DictReader(table.open()))
    by_hand = {}
    for row in rows:
        pixels = np.asarray(Image.open(tmp_path / "queries" / row["query"]))
        by_hand[row["query"]] = pixels
        row["label"] = CLASSES[int(pixels.mean((0, 1)).argmax())]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["query", "label"])
        writer.writeheader()
        writer.writerows(reversed(rows))
    model = open_model(str(table), NAMES, SEEN)
    assert model.gives == "top-1" and torch.equal(model.ask(images).top, images.double().mean((2, 3)).argmax(1))
    with pytest.raises(UsageError, match="no answer for"):
        model.ask(images.flip(0) ^ 1)


def test_a_csv_with_a_column_for_every_class_gives_probabilities(tmp_path: Path, images: Tensor) -> None:
    from unlearnable.tracing.pictures import file_name

    lines = ["query,label,cat,cow,dog"] + [f"{file_name(image)},dog,0.1,0.2,0.7" for image in images]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    model = open_model(str(tmp_path / "a.csv"), NAMES, SEEN)
    assert model.gives == "probabilities" and model.ask(images).probabilities[0].tolist() == [0.1, 0.2, 0.7]
    (tmp_path / "b.csv").write_text("file,answer\n1,2\n")
    with pytest.raises(UsageError, match="columns query and label"):
        open_model(str(tmp_path / "b.csv"), NAMES, SEEN)


def test_outputs_are_named_or_refused_when_their_number_differs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="5 outputs, the release 3 classes"):
        NAMES.columns(5)
    file = tmp_path / "labels.txt"
    file.write_text("horse\ndog\ncat\n\nboat\nplane\n")
    names = Names.read(CLASSES, file)
    assert names.columns(5).tolist() == [-1, 2, 0, -1, -1]
    answers = names.answers(torch.tensor([[0.6, 0.1, 0.1, 0.1, 0.1], [0.0, 0.7, 0.3, 0.0, 0.0]]))
    assert answers.top.tolist() == [-1, 2] and answers.probabilities[1].tolist() == pytest.approx([0.3, 0, 0.7])
    assert names.number("1") == 2 and names.number(" cat ") == 0 and names.number("zebra") == -1
    assert names.number("²") == -1, "a digit to Python, and no number"
    file.write_text("zebra\n")
    with pytest.raises(UsageError, match="names none of the classes"):
        Names.read(CLASSES, file)


def test_answers_that_are_no_numbers_are_refused_and_never_ranked(images: Tensor) -> None:
    class Broken:
        shown, gives, white = "broken.pt", "probabilities", None

        def ask(self, images: Tensor) -> Answers:
            return Answers(torch.zeros(len(images), dtype=torch.long), torch.full((len(images), 3), float("nan")))

    with pytest.raises(UsageError, match=r"broken.pt answers with values that are no numbers"):
        Asking(Broken())("key", [""] * len(images), images, torch.zeros(len(images), dtype=torch.long))


def test_a_class_that_two_outputs_are_called_has_no_row(tmp_path: Path) -> None:
    """Both would be compared with one secret direction, and Fisher's method wants independent ones."""
    torch.save(nets.weights_of(nets.create("tiny", 4, 16, seed=0)), tmp_path / "suspect.pt")
    model = open_model(f"tiny@{tmp_path}/suspect.pt", Names(CLASSES, ("dog", "cat", "boat", "dog")), SEEN)
    assert model.white is not None and model.white.rows == (0,) and len(model.white.weight) == 1


def test_pictures_of_a_size_that_a_network_does_not_take_are_one_sentence(images: Tensor) -> None:
    from unlearnable.tracing.models import checkpoint, onnx

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[-1] == 224, "wrong height"
            return self.head(x.mean((2, 3)))

    class Session:
        def get_inputs(self) -> list[Any]:
            return [type("Input", (), {"name": "x", "shape": ["N", 3, "H", "W"], "type": "tensor(float)"})]

        def run(self, outputs: Any, feed: Any) -> list[np.ndarray]:
            raise Exception("Got invalid dimensions for input: x")  # onnxruntime's have no base of their own

    for model in (
        checkpoint.of_module("vit@w.pt", Fixed(), NAMES, SEEN, "none", ()),
        onnx.Onnx("m.onnx", Session(), NAMES, SEEN),
    ):
        with pytest.raises(UsageError, match="cannot take these pictures") as why:
            model.ask(images)
        assert "--size" in why.value.hint


def test_an_unknown_model_and_a_bad_option_are_one_sentence() -> None:
    with pytest.raises(UsageError, match="not known as a model"):
        open_model("suspect", NAMES, SEEN)
    with pytest.raises(UsageError, match="--normalise"):
        open_model("suspect", NAMES, Seen(normalise="best"))
    with pytest.raises(UsageError, match="timm"):
        open_model("timm:resnet18@x.pt", NAMES, SEEN)
    assert {module.__name__.rpartition(".")[2] for module in models.adapters()} >= {"checkpoint", "http", "answers"}


def test_the_record_has_one_row_for_every_question(images: Tensor) -> None:
    class Says:
        shown, gives, white = "says", "top-1", None

        def ask(self, images: Tensor) -> Answers:
            return Answers(torch.ones(len(images), dtype=torch.long))

    ask = Asking(Says())
    wanted = torch.arange(20) % 3
    found = ask("key", ["true"] * 20, images, wanted)
    assert found.of(wanted).tolist() == (wanted == 1).double().tolist()
    assert [row[:2] for row in ask.rows] == [("key", "true")] * 20
    assert ask.rows[4] == ("key", "true", digest(images[4]), 1, 1, 1.0)
    changed = images[4].clone()
    changed[0, 0, 0] ^= 1
    assert digest(changed) != digest(images[4]), "one grey level is another picture"

"""Methods by file name: a new poison, defence, network or source is one new file, found by listing its folder.

Names, summaries, parameters and presets are read from the file's text (`ast`), so that `--help`, `methods` and the checks
of a command line never import torch. `load` imports the module when the work starts.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import pkgutil
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from unlearnable.errors import UsageError

_ROOT = Path(__file__).resolve().parent
_NOUN = {"poisons": "method", "defences": "defence", "nets": "network", "sources": "source"}
_FILES = (".safetensors", ".pt", ".pth")  # of weights
HUB = "hf://"
_MOST_NETS = 16  # to craft on


@dataclass(frozen=True)
class Field:
    """One parameter of a method: its name, the type as written, its default and what it means."""

    name: str
    type: str
    default: Any
    help: str


@dataclass(frozen=True)
class Described:
    """What a method's file says about it."""

    name: str
    summary: str
    params: tuple[Field, ...]
    presets: dict[str, dict[str, Any]]
    facts: dict[str, Any]  # the other upper-case literals: PAPER, COST, NEEDS_LABELS ...
    text: str = ""  # the whole docstring


def names(kind: str) -> list[str]:
    """Methods of a kind ("poisons", "defences", "nets", "sources"), from file names; helpers start with an underscore."""
    return sorted(m.name for m in pkgutil.iter_modules([str(_ROOT / kind)]) if not m.name.startswith("_"))


def load(kind: str, name: str) -> ModuleType:
    """Imports the module of a method. Raises UsageError, with the nearest name, when there is none."""
    require(kind, name)
    return importlib.import_module(f"unlearnable.{kind}.{name}")


def require(kind: str, name: str) -> None:
    known = names(kind)
    if name not in known:
        raise UsageError(f"There is no {_NOUN.get(kind, kind)} called {name!r}.", nearest(name, known))


def nearest(name: str, known: list[str]) -> str:
    """A hint: the closest known name, and all of them."""
    return f"{_guess(name, known)}Known: {', '.join(known)}."


def _guess(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}? " if close else ""


@dataclass(frozen=True)
class Net:
    """A network as `--victim` and `--set net=` spell it: [frozen:]NAME[@WEIGHTS]."""

    name: str
    weights: str = ""  # a file, hf://OWNER/NAME[@REVISION]/FILE, or torchvision's name for them; "" is from scratch
    frozen: bool = False  # the weights stay as they are, and only a last layer on them is trained

    @property
    def shown(self) -> str:
        """The spec as others may read it: of a file no folders."""
        weights = Path(self.weights).name if is_file(self.weights) else self.weights
        return ("frozen:" if self.frozen else "") + self.name + (f"@{weights}" if weights else "")


def network(spec: str) -> Net:
    """What a spec asks for. Raises UsageError for a name that is none; imports torchvision for one without a file here."""
    name, at, weights = spec.removeprefix("frozen:").partition("@")
    net = Net(name, weights, spec.startswith("frozen:"))
    known = names("nets")
    if name not in known:
        from torchvision import models

        others = models.list_models(module=models)
        if name not in others:
            guess = _guess(name, {*known, *others})
            hint = f"{guess}Known: {', '.join(known)}, and every classification network of torchvision."
            raise UsageError(f"There is no network called {name!r}.", hint)
    elif weights and describe("nets", name).facts.get("WEIGHTS") is False and not is_file(weights.rpartition("/")[2]):
        raise UsageError(
            f"{name} is not torchvision's: no weights of it are published.", f"Give a file: {name}@FILE.pt"
        )
    if (at or net.frozen) and not weights:
        raise UsageError(f"{spec} names no weights.", f"Write {'frozen:' * net.frozen}{name}@FILE or @DEFAULT.")
    return net


def ensemble(spec: str) -> list[tuple[str, int]]:
    """Networks to craft on, each with the number of its seed: "resnet18*2+small" -> resnet18 0, resnet18 1, small 0.

    Raises UsageError for what is no list of them. Paths of weights that hold a "+" or "*" cannot be spelled here.
    """
    out = []
    for part in spec.split("+"):
        name, star, count = part.strip().partition("*")
        if not name or (star and not count.isdigit()) or count == "0":
            raise UsageError(f"net={spec} is not a list of networks.", "Such as resnet18, resnet18+vgg19_bn, small*3.")
        out += [(name, number) for number in range(min(int(count or 1), _MOST_NETS + 1))]
    if len(out) > _MOST_NETS:
        raise UsageError(f"net={spec} asks for more than {_MOST_NETS} networks.")
    return out


def require_network(spec: str) -> None:
    """Refuses a network that does not exist, or whose weights plainly do not, before any work; fetches nothing."""
    net = network(spec)
    if not net.weights:
        return
    if net.weights.startswith(HUB):
        hub_file(net.weights)
    elif is_file(net.weights):
        if not Path(net.weights).is_file():
            raise UsageError(f"There is no file {net.weights}, which {net.name} is to start from.")
    else:
        from torchvision import models

        known = list(models.get_model_weights(net.name).__members__)
        if net.weights not in known:
            hint = nearest(net.weights, known) + f" Or a file: {', '.join(_FILES)}."
            raise UsageError(f"torchvision has no weights {net.weights!r} of {net.name}.", hint)


def is_file(weights: str) -> bool:
    return not weights.startswith(HUB) and weights.endswith(_FILES)


def hub_file(address: str) -> tuple[str, str | None, str]:
    """Repository, revision and file of an hf:// address. Raises UsageError for another spelling."""
    found = re.fullmatch(HUB + r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([^/]+))?/(.+)", address)
    if found is None or not address.endswith(_FILES):
        raise UsageError(f"{address} is no file of weights on the Hub.", f"Write {HUB}OWNER/NAME/FILE{_FILES[0]}.")
    return found[1], found[2], found[3]


@cache
def describe(kind: str, name: str) -> Described:
    """Reads a method's file without importing it."""
    require(kind, name)
    tree = ast.parse((_ROOT / kind / f"{name}.py").read_text(encoding="utf-8"))
    text = ast.get_docstring(tree) or ""
    facts: dict[str, Any] = {}
    params: tuple[Field, ...] = ()
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id.isupper() and not target.id.startswith("_"):
                facts[target.id] = _literal(node.value)
        elif isinstance(node, ast.ClassDef) and node.name == "Params":
            params = _fields(kind, node)
    return Described(name, text.partition("\n")[0], params, facts.pop("PRESETS", None) or {}, facts, text)


def find_preset(kind: str, preset: str) -> tuple[str, dict[str, Any]]:
    """The method that owns a preset and the parameters it sets. A method's own name is a preset of its defaults."""
    table = {p: (n, values) for n in names(kind) for p, values in describe(kind, n).presets.items()}
    table |= {n: (n, {}) for n in names(kind) if n not in table}
    if preset not in table:
        raise UsageError(f"There is no preset called {preset!r}.", nearest(preset, sorted(table)))
    return table[preset]


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None  # computed at import: not part of the description


def _fields(kind: str, node: ast.ClassDef) -> tuple[Field, ...]:
    """Annotated fields of a Params class, after those of a shared base (`_pgd.Params`); the string after one is its help.

    One that only gives a field of the base another default keeps the base's help.
    """
    out: dict[str, Field] = {}
    for base in node.bases:
        if isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name):
            tree = ast.parse((_ROOT / kind / f"{base.value.id}.py").read_text(encoding="utf-8"))
            shared = next(part for part in tree.body if isinstance(part, ast.ClassDef) and part.name == base.attr)
            out |= {field.name: field for field in _fields(kind, shared)}
    following = [*node.body[1:], None]
    for item, after in zip(node.body, following, strict=True):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is not None:
            doc = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            name = item.target.id
            inherited = out[name].help if name in out else ""
            out[name] = Field(name, ast.unparse(item.annotation), _literal(item.value), str(doc) or inherited)
    return tuple(out.values())

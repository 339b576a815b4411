"""Which columns beside the image could show an original, or another unprotected picture: no release may hold them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Protocol

from unlearnable.imageio import sniff
from unlearnable.sources import _schema
from unlearnable.sources._columns import is_binary
from unlearnable.types import Skipped

if TYPE_CHECKING:
    import pyarrow as pa

# features that can show an original; an array has a name of its own for every number of dimensions
_FEATURES = ('"Image"', '"Video"', '"Pdf"', '"Nifti"', '"Array2D"', '"Array3D"', '"Array4D"', '"Array5D"')
_SAMPLE = 20  # values of a text column that are looked at, in each split
_HEAD = 44  # characters of base64 that hold the 32 bytes which tell a container


class _Columns(Protocol):
    def batches(self, column: str) -> Iterator[pa.ChunkedArray]: ...


def unpublishable(
    schema: pa.Schema, features: Mapping[str, Any], image: str, splits: Iterable[_Columns]
) -> list[Skipped]:
    """Columns that stay out of every release, by their type, their feature or the first of their values."""
    parts = list(splits)
    out = []
    for field in schema:
        if field.name != image and _may_show(field, json.dumps(features.get(field.name, {})), parts):
            reason = "may hold pictures, which would be published unprotected; left out"
            out.append(Skipped(f"column {field.name}", reason, image=False))
    return out


def _may_show(field: pa.Field, feature: str, parts: Iterable[_Columns]) -> bool:
    if _numbers(field.type, 0) or any(kind in feature for kind in _FEATURES):
        return True
    if _holds(field.type, _is_raw):
        return '"Audio"' not in feature
    if not _holds(field.type, _is_text):
        return False
    return any(_is_picture(text) for part in parts for value in _first(part, field.name) for text in _texts(value))


def _first(part: _Columns, name: str) -> Iterator[Any]:
    """Values of one split's column, missing ones not counted."""
    values = chain.from_iterable(column.drop_null().slice(0, _SAMPLE).to_pylist() for column in part.batches(name))
    return islice(values, _SAMPLE)


def _texts(value: Any) -> Iterator[str]:
    """Every string in a value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def _is_picture(text: str) -> bool:
    """A data: URI of an image, or base64 with an image's first bytes, also in the alphabet for addresses."""
    start = text[:400].lstrip()
    if start[:5].lower() == "data:":
        kind, _, start = start[5:].partition(",")
        if kind.strip().lower().startswith("image/"):
            return True
    head = "".join(start.split())[:_HEAD].translate({ord("-"): "+", ord("_"): "/"})
    if len(head) < _HEAD:
        return False
    try:
        return bool(sniff(base64.b64decode(head, validate=True)))
    except (binascii.Error, ValueError):  # no base64
        return False


def _holds(kind: pa.DataType, wanted: Any) -> bool:
    """Whether the type, or any inside it, is wanted."""
    inner = _wrapped(kind)
    if inner is not None:
        return _holds(inner, wanted)
    return wanted(kind) or any(_holds(kind.field(i).type, wanted) for i in range(kind.num_fields))


def _numbers(kind: pa.DataType, depth: int) -> bool:
    """Lists of bytes and lists of lists of numbers, which pixels are stored as. depth: of lists around this type."""
    pa = _schema.arrow()
    inner = _wrapped(kind)
    if inner is not None:
        # What has a type of its own around a list is a matrix or tensor.
        return _numbers(inner, depth + isinstance(kind, pa.BaseExtensionType))
    if _is_list(pa, kind):
        return _numbers(kind.value_type, depth + 1)
    if kind.num_fields:
        return any(_numbers(kind.field(i).type, 0) for i in range(kind.num_fields))
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return bool((depth >= 2 and number) or (depth >= 1 and pa.types.is_uint8(kind)))


def _wrapped(kind: pa.DataType) -> pa.DataType | None:
    """The type that an extension, a dictionary or a run-length encoding stores, None for any other."""
    pa = _schema.arrow()
    if isinstance(kind, pa.BaseExtensionType):
        return kind.storage_type
    encoded = pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind)
    return kind.value_type if encoded else None


def _is_list(pa: Any, kind: pa.DataType) -> bool:
    types = pa.types
    fixed = types.is_fixed_size_list(kind) or types.is_list_view(kind) or types.is_large_list_view(kind)
    return bool(fixed or types.is_list(kind) or types.is_large_list(kind))


def _is_raw(kind: pa.DataType) -> bool:
    pa = _schema.arrow()
    return is_binary(pa, kind) or bool(pa.types.is_fixed_size_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    pa = _schema.arrow()
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))

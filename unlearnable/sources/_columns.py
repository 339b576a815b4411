"""Which column holds the image and which the label. Decided by feature type, then name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unlearnable.errors import UsageError
from unlearnable.registry import nearest
from unlearnable.sources import Options, _schema, one_class_error

if TYPE_CHECKING:
    import pyarrow as pa

_NO_LABELS = "Name another column with --label-column, or use --labels none."


def image_column(schema: pa.Schema, features: Mapping[str, Any], wanted: str | None) -> str:
    """The column to protect. Raises UsageError, naming the candidates, when it is not plain which."""
    pa = _schema.arrow()
    if wanted is not None:
        _require(schema, wanted, "--image-column")
        if not (_is_image_struct(schema.field(wanted).type) or is_binary(pa, schema.field(wanted).type)):
            raise UsageError(f"Column {wanted} holds {schema.field(wanted).type}, not image bytes.")
        return wanted
    found: list[str] = [n for n in schema.names if features.get(n, {}) and features[n].get("_type") == "Image"]
    found = found or [n for n in schema.names if n not in features and _is_image_struct(schema.field(n).type)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"Several columns hold images: {', '.join(found)}.", "Choose one with --image-column.")
    raise UsageError(
        f"No column holds images; columns: {', '.join(schema.names)}.",
        "Image bytes must be stored in the dataset; name a column of bytes with --image-column.",
    )


def label_column(schema: pa.Schema, features: Mapping[str, Any], options: Options) -> str | None:
    """The column of labels, None where there is none or none is wanted. Raises UsageError when it is not plain which."""
    if options.labels not in ("auto", "none"):
        raise UsageError("--labels folders and --labels FILE are for image folders.", _NO_LABELS)
    if options.label_column is not None:
        if options.labels == "none":
            raise UsageError("--label-column and --labels none exclude each other.")
        _require(schema, options.label_column, "--label-column")
        return options.label_column
    if options.labels == "none":
        return None
    found = [n for n in schema.names if (features.get(n) or {}).get("_type") == "ClassLabel"]
    if len(found) > 1:
        raise UsageError(f"Several columns hold class labels: {', '.join(found)}.", "Choose one with --label-column.")
    return next(iter(found + [n for n in ("label", "labels") if n in schema.names]), None)


def classes(
    column: str, feature: Mapping[str, Any] | None, splits: Mapping[str, pa.ChunkedArray], spec: str
) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """Class names, and each split's labels as positions in them.

    A ClassLabel column brings its names; integers, truth values and short lists of distinct strings make classes,
    sorted. Raises UsageError on lists, numbers with fractions, free text, missing labels and a single class.
    """
    pa = _schema.arrow()
    kind = next(iter(splits.values())).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_nested(kind):
        raise UsageError(
            f"Column {column} holds {kind}: several labels an image (from row 0 on) are not supported.", _NO_LABELS
        )
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if not (text or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise UsageError(f"Column {column} holds {kind}, which cannot be a class label.", _NO_LABELS)
    values = {split: found.to_pylist() for split, found in splits.items()}
    named = feature is not None and feature.get("_type") == "ClassLabel"
    for split, found in values.items():
        _refuse_missing(column, split, found, -1 if named else None)
    distinct = sorted({value for found in values.values() for value in found})
    if named and feature is not None:
        names = _names_of(feature, column)
        if distinct and not 0 <= distinct[0] <= distinct[-1] < len(names):
            raise UsageError(f"Column {column} holds {distinct[-1]}, but names only {len(names)} classes.", _NO_LABELS)
        number = {value: value for value in distinct}
    else:
        rows = sum(len(found) for found in values.values())
        if text and len(distinct) > max(2, rows // 2):
            raise UsageError(
                f"Column {column} is free text: {len(distinct)} different values in {rows} rows.", _NO_LABELS
            )
        names = tuple(str(value) for value in distinct)
        number = {value: index for index, value in enumerate(distinct)}
    if len(distinct) == 1:
        raise one_class_error(spec, names[number[distinct[0]]])
    return names, {split: [number[value] for value in found] for split, found in values.items()}


def _names_of(feature: Mapping[str, Any], column: str) -> tuple[str, ...]:
    names = feature.get("names")
    if isinstance(names, Mapping):  # {"0": "cat", ...}, as dataset cards spell it
        names = [names[key] for key in sorted(names, key=int)]
    if not isinstance(names, Sequence) or isinstance(names, str):
        raise UsageError(f"Column {column} is a ClassLabel without names.", _NO_LABELS)
    return tuple(str(name) for name in names)


def _refuse_missing(column: str, split: str, values: Sequence[Any], unknown: int | None) -> None:
    """datasets writes -1 where a ClassLabel is unknown, as in test sets whose labels are kept back."""
    row = next((i for i, value in enumerate(values) if value is None or value == unknown), None)
    if row is not None:
        raise UsageError(
            f"Column {column} has no label in split {split}, row {row}.",
            "Protect another split with --split, or use --labels none.",
        )


def _require(schema: pa.Schema, name: str, option: str) -> None:
    if name not in schema.names:
        raise UsageError(f"{option}: there is no column {name!r}.", nearest(name, list(schema.names)))


def is_binary(pa: Any, kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_image_struct(kind: pa.DataType) -> bool:
    pa = _schema.arrow()
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    return is_binary(pa, kind.field("bytes").type)

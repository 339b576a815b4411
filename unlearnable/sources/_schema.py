"""Arrow schemas that carry `datasets` features, so that a reader gets Image and ClassLabel columns back."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unlearnable.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

KEY = b"huggingface"
IMAGE = b"unlearnable:image"  # which column a release's reader takes the pictures from


def library(name: str, what: str) -> Any:
    """Imports a library when it is needed. Raises UsageError that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as why:
        raise UsageError(f"{what} needs the library {name}.", f"Run: pip install {name}") from why


def arrow() -> Any:
    """pyarrow."""
    return library("pyarrow", "Reading and writing parquet")


def features(schema: pa.Schema) -> dict[str, Any]:
    """Column name to feature, as `datasets` wrote them into the schema; empty where it did not."""
    text = (schema.metadata or {}).get(KEY)
    try:
        found = json.loads(text)["info"]["features"] if text else {}
    except (ValueError, KeyError, TypeError):
        return {}  # another tool's key of the same name
    return found if isinstance(found, dict) else {}


def for_release(schema: pa.Schema, columns: Mapping[str, Any], image: str) -> pa.Schema:
    """The schema with these features, the image column marked, and nothing else that other tools noted in it.

    What they noted may name the originals: a `datasets` fingerprint, a path, a checksum, on the table or on a column.
    """
    text = json.dumps({"info": {"features": {n: columns[n] for n in schema.names if n in columns}}})
    return arrow().schema([_bare(field) for field in schema], {KEY: text.encode(), IMAGE: image.encode()})


def _bare(field: pa.Field) -> pa.Field:
    """The field without metadata, inside its type too."""
    pa = arrow()
    kind = field.type
    if pa.types.is_struct(kind):
        kind = pa.struct([_bare(kind.field(i)) for i in range(kind.num_fields)])
    elif pa.types.is_large_list(kind):
        kind = pa.large_list(_bare(kind.value_field))
    elif pa.types.is_fixed_size_list(kind):
        kind = pa.list_(_bare(kind.value_field), kind.list_size)
    elif pa.types.is_list(kind):
        kind = pa.list_(_bare(kind.value_field))
    elif pa.types.is_map(kind):
        kind = pa.map_(_bare(kind.key_field), _bare(kind.item_field), kind.keys_sorted)
    return pa.field(field.name, kind, field.nullable)


def image_field(field: pa.Field) -> pa.Field:
    """The image column as a release holds it: paths that no row had, and so have no type, become strings."""
    pa = arrow()
    if not pa.types.is_struct(field.type):
        return field
    children = [field.type.field(i) for i in range(field.type.num_fields)]
    typed = [c.with_type(pa.string()) if c.name == "path" and pa.types.is_null(c.type) else c for c in children]
    return field.with_type(pa.struct(typed))


def image_array(kind: pa.DataType, images: Sequence[bytes], paths: Sequence[str]) -> pa.Array:
    """Image bytes and paths as a column of the source's own type: a struct with bytes and path, or plain binary."""
    pa = arrow()
    if not pa.types.is_struct(kind):
        return pa.array(images, kind)
    values = {"bytes": images, "path": paths}
    fields = [kind.field(i) for i in range(kind.num_fields)]
    arrays = [pa.array(values.get(field.name, [None] * len(images)), field.type) for field in fields]
    return pa.StructArray.from_arrays(arrays, fields=fields)


def new_table(
    images: Sequence[bytes], names: Sequence[str], labels: Sequence[int | None] | None, classes: tuple[str, ...] | None
) -> pa.Table:
    """Columns image, label (unless None) and file_name."""
    pa = arrow()
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"image": image_array(kind, images, names)}
    found: dict[str, Any] = {"image": {"_type": "Image"}}
    if labels is not None:
        columns["label"] = pa.array(labels, pa.int64())
        found["label"] = {"names": list(classes or ()), "_type": "ClassLabel"}
    columns["file_name"] = pa.array(names, pa.string())
    found["file_name"] = {"dtype": "string", "_type": "Value"}
    table = pa.table(columns)
    return table.replace_schema_metadata(for_release(table.schema, found, "image").metadata)

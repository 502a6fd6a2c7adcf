"""Which columns of a table hold pictures and labels, in the layout of Hugging Face or near it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from cist_core.data.labelling import one_of
from cist_core.data.names import checked_class_names
from cist_core.errors import CistError
from cist_core.logits.files.names import LABEL_NAMES

IMAGE_COLUMNS = ("image", "img", "images", "picture", "pixels", "jpg", "png")


@dataclass(frozen=True)
class Layout:
    """Where a table has its pictures and labels.

    Attributes:
        image: a column of compressed pictures.
        fields: of that column where it is a struct: ``bytes``, ``path`` or both; empty where it holds the bytes.
        label: a column of numbers or names.
        class_names: from the ``ClassLabel`` of a Hugging Face data set.
        unused: the other columns.
    """

    image: str
    fields: tuple[str, ...]
    label: str
    class_names: tuple[str, ...] | None
    unused: tuple[str, ...] = field(default=(), compare=False)


def find_layout(schema: Any, where: str) -> Layout:
    """Read the schema of an Arrow or Parquet file.

    Raises:
        CistError: if no column holds pictures or labels, or one of several cannot be chosen.
    """
    image_columns = {field.name: found for field in schema if (found := _picture_fields(field.type)) is not None}
    image = one_of(image_columns, IMAGE_COLUMNS)
    if image is None and len(image_columns) == 1:
        image = next(iter(image_columns))
    if image is None:
        raise CistError(
            f"{where} has the columns {_named(schema)}, but none of them called 'image' holds the bytes of pictures."
        )
    named = _class_labels(schema, where)
    labels = [field.name for field in schema if _is_label(field.type)]
    label = one_of(labels, LABEL_NAMES)
    if label is None and len(named) == 1 and next(iter(named)) in labels:
        label = next(iter(named))
    if label is None:
        raise CistError(
            f"{where} has the columns {_named(schema)}, but none of them called 'label' holds whole numbers or names."
        )
    unused = tuple(str(name)[:40] for name in schema.names if name not in (image, label))
    return Layout(image, image_columns[image], label, named.get(label), unused)


def _named(schema: Any) -> list[str]:
    return [str(name)[:40] for name in schema.names[:20]]


def _picture_fields(kind: Any) -> tuple[str, ...] | None:
    """The fields of a picture's column: none where it holds bytes; None where it holds no pictures."""
    import pyarrow as pa

    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return ()
    if not pa.types.is_struct(kind):
        return None
    fields = {field.name: field.type for field in kind}
    kinds = {
        "bytes": (pa.types.is_binary, pa.types.is_large_binary),
        "path": (pa.types.is_string, pa.types.is_large_string),
    }
    found = tuple(name for name, tests in kinds.items() if name in fields and any(test(fields[name]) for test in tests))
    return found or None


def _is_label(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _class_labels(schema: Any, where: str) -> dict[str, tuple[str, ...]]:
    """Class names of every ``ClassLabel`` column, from what `datasets` writes beside the schema."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(text)["info"]["features"]
        items = features.items()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # a table without such names is still one
    return {
        str(name): checked_class_names(feature["names"], where)
        for name, feature in items
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list)
    }

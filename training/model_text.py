"""Is this text a whole LightGBM model? Checked before the C library sees it, which trusts every index it reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput

_END: Final = b"end of trees"
_OF_SPLITS: Final = ("split_feature", "decision_type", "left_child", "right_child")
_OF_SPLITS_OPTIONAL: Final = ("split_gain", "internal_value", "internal_weight", "internal_count")
_OF_LEAVES_OPTIONAL: Final = ("leaf_weight", "leaf_count")
_HEAD: Final = frozenset({
    "version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx", "objective", "feature_names",
    "feature_infos", "tree_sizes", "monotone_constraints",
})  # fmt: skip
_TREE: Final = frozenset({
    "Tree", "num_leaves", "num_cat", "threshold", "leaf_value", "cat_boundaries", "cat_threshold", "is_linear",
    "shrinkage", *_OF_SPLITS, *_OF_SPLITS_OPTIONAL, *_OF_LEAVES_OPTIONAL,
})  # fmt: skip
# Trees are read in parallel inside the library, where a number it cannot read ends the process: so no leniency here.
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?|-?inf|-?nan")


@dataclass(frozen=True, slots=True)
class Header:
    """The head of a model text: what it predicts, and from how many features."""

    objective: str
    feature_names: tuple[str, ...]
    n_trees: int


def check_model_text(blob: bytes) -> Header:
    """Read the head and walk every tree: sizes, features, children and category sets must be in range.

    A truncated or altered text makes the library crash or read foreign memory, not fail, so this comes first.
    Children always have a higher index than their parent (the order in which leaves are split), which also
    rules out cycles. Raises InvalidInput `broken_model`.

    Source: LightGBM 4.x, src/boosting/gbdt_model_text.cpp and src/io/tree.cpp.
    """
    if not blob.startswith(b"tree\n"):
        raise _broken("it does not begin as one")
    head_text, separator, rest = blob.partition(b"\nTree=0\n")
    end = blob.find(_END)
    if end < 0:
        raise _broken("its end is missing")
    head_text = (head_text if separator else blob[:end]).removeprefix(b"tree\n").replace(b"\naverage_output\n", b"\n")
    head = _fields(head_text, "its head", _HEAD)
    header = _header(head)
    start = blob.index(b"\nTree=0\n") + 1 if separator else end
    for index, size in enumerate(_whole(head.get("tree_sizes", ""), "tree_sizes").tolist()):
        tree = blob[start : start + size]
        if size <= 0 or not tree.startswith(b"Tree=%d\n" % index) or start + size > end:
            raise _broken(f"tree {index} is not where the head says")
        _check_tree(_fields(tree, f"tree {index}", _TREE), index, len(header.feature_names))
        start += size
    if blob[start:end].strip() or (separator and not rest):
        raise _broken("there is more between its trees than the head says")
    return header


def _header(head: dict[str, str]) -> Header:
    names = tuple(head.get("feature_names", "").split())
    n_features = _count(head, "max_feature_idx") + 1
    if len(names) != n_features or len(head.get("feature_infos", "").split()) != n_features:
        raise _broken(f"it names {len(names)} features and was trained on {n_features}")
    if _count(head, "num_class") != 1 or _count(head, "num_tree_per_iteration") != 1:
        raise _broken("it predicts several classes; a conversion model predicts one")
    n_trees = len(head.get("tree_sizes", "").split())
    return Header(objective=head.get("objective", ""), feature_names=names, n_trees=n_trees)


def _check_tree(tree: dict[str, str], index: int, n_features: int) -> None:
    where = f"tree {index}: "
    n_leaves = _count(tree, "num_leaves", where)
    n_splits = n_leaves - 1
    if n_leaves < 1 or tree.get("is_linear", "0") != "0":
        raise _broken(where + "not a tree with constant leaves")
    _numbers(tree.get("leaf_value", ""), where + "leaf_value", n_leaves)
    _numbers(tree.get("shrinkage", "1"), where + "shrinkage", 1)
    if n_splits == 0:
        return
    _numbers(tree.get("threshold", ""), where + "threshold", n_splits, finite=False)
    features, kinds, left, right = (_whole(tree.get(name, ""), where + name, n_splits) for name in _OF_SPLITS)
    for name, length in (*((n, n_splits) for n in _OF_SPLITS_OPTIONAL), *((n, n_leaves) for n in _OF_LEAVES_OPTIONAL)):
        if name in tree:
            _numbers(tree[name], where + name, length, finite=False)
    if features.min() < 0 or features.max() >= n_features:
        raise _broken(where + "it splits on a feature that the model does not have")
    nodes = np.arange(n_splits)
    for children in (left, right):
        inner = children >= 0
        if (children[inner] <= nodes[inner]).any() or (children >= n_splits).any() or (~children >= n_leaves).any():
            raise _broken(where + "a child is outside the tree")
    _check_categories(tree, where, kinds)


def _check_categories(tree: dict[str, str], where: str, kinds: NDArray[np.int64]) -> None:
    n_sets = _count(tree, "num_cat", where)
    categorical = (kinds & 1) == 1
    if n_sets == 0 and not categorical.any():
        return
    bounds = _whole(tree.get("cat_boundaries", ""), where + "cat_boundaries", n_sets + 1)
    bits = _whole(tree.get("cat_threshold", ""), where + "cat_threshold")
    sets = np.array(tree["threshold"].split(" "), dtype=np.float64)[categorical]
    if bounds[0] != 0 or (np.diff(bounds) < 0).any() or bounds[-1] != len(bits):
        raise _broken(where + "its sets of categories overlap")
    if not ((sets >= 0) & (sets < n_sets)).all():
        raise _broken(where + "it splits on a set of categories that it does not have")


def _fields(text: bytes, what: str, allowed: frozenset[str]) -> dict[str, str]:
    """`key=value` lines, each key known and there once, and nothing else but blank lines at the end."""
    fields: dict[str, str] = {}
    for line in text.rstrip(b"\n").split(b"\n"):
        key, separator, value = line.decode("utf-8", "replace").partition("=")
        if not separator or key not in allowed or key in fields:
            raise _broken(f"{what} has a line {line[:30]!r}")
        fields[key] = value
    return fields


def _count(fields: dict[str, str], name: str, where: str = "") -> int:
    value = fields.get(name, "")
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise _broken(f"{where}{name} is not a count")
    return int(value)


def _whole(text: str, name: str, length: int | None = None) -> NDArray[np.int64]:
    parts = text.split(" ") if text else []
    if not all(map(_WHOLE.fullmatch, parts)):
        raise _broken(f"{name} holds something other than whole numbers")
    if length is not None and len(parts) != length:
        raise _broken(f"{name} has {len(parts)} entries, not {length}")
    return np.array(parts, dtype=np.int64)


def _numbers(text: str, name: str, length: int, *, finite: bool = True) -> None:
    parts = text.split(" ") if text else []
    if not all(map(_NUMBER.fullmatch, parts)):
        raise _broken(f"{name} holds something other than numbers")
    if len(parts) != length or (finite and not np.isfinite(np.array(parts, dtype=np.float64)).all()):
        raise _broken(f"{name} has {len(parts)} entries, not {length} finite ones")


def _broken(why: str) -> InvalidInput:
    return InvalidInput("broken_model", f"not a whole LightGBM model: {why}")

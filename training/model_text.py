"""Is this text a whole LightGBM model? Checked before the C library sees it, which trusts every index it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput

_END: Final = b"end of trees"
_OF_SPLITS: Final = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
_OF_SPLITS_OPTIONAL: Final = ("split_gain", "internal_value", "internal_weight", "internal_count")
_OF_LEAVES_OPTIONAL: Final = ("leaf_weight", "leaf_count")


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
    head = _fields((head_text if separator else blob[:end]).decode("utf-8", "replace"))
    header = _header(head)
    start = len(head_text) + 1 if separator else end
    for index, size in enumerate(_whole(head.get("tree_sizes", ""), "tree_sizes").tolist()):
        tree = blob[start : start + size]
        if size <= 0 or not tree.startswith(b"Tree=%d\n" % index) or start + size > end:
            raise _broken(f"tree {index} is not where the head says")
        _check_tree(_fields(tree.decode("utf-8", "replace")), index, len(header.feature_names))
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
    if n_splits == 0:
        return
    _numbers(tree.get("threshold", ""), where + "threshold", n_splits, finite=False)
    features, _, kinds, left, right = (_whole(tree.get(name, ""), where + name, n_splits) if name != "threshold"
                                       else np.empty(0, np.int64) for name in _OF_SPLITS)  # fmt: skip
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
    sets = np.array(tree["threshold"].split(), dtype=np.float64)[categorical]
    if bounds[0] != 0 or (np.diff(bounds) < 0).any() or bounds[-1] != len(bits):
        raise _broken(where + "its sets of categories overlap")
    if not ((sets >= 0) & (sets < n_sets)).all():
        raise _broken(where + "it splits on a set of categories that it does not have")


def _fields(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.split("\n") if "=" in line)


def _count(fields: dict[str, str], name: str, where: str = "") -> int:
    value = fields.get(name, "")
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise _broken(f"{where}{name} is not a count")
    return int(value)


def _whole(text: str, name: str, length: int | None = None) -> NDArray[np.int64]:
    try:
        values = np.array([int(part) for part in text.split()], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise _broken(f"{name} holds something other than whole numbers") from error
    if length is not None and len(values) != length:
        raise _broken(f"{name} has {len(values)} entries, not {length}")
    return values


def _numbers(text: str, name: str, length: int, *, finite: bool = True) -> None:
    try:
        values = np.array([float(part) for part in text.split()], dtype=np.float64)
    except ValueError as error:
        raise _broken(f"{name} holds something other than numbers") from error
    if len(values) != length or (finite and not np.isfinite(values).all()):
        raise _broken(f"{name} has {len(values)} entries, not {length} finite ones")


def _broken(why: str) -> InvalidInput:
    return InvalidInput("broken_model", f"not a whole LightGBM model: {why}")

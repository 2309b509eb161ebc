"""Broken model bytes are refused in words; none of them ever reaches the C library and ends the process."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import InvalidInput
from engine.schema import N_FEATURES
from training.model_text import check_model_text

ROOT = Path(__file__).resolve().parents[2]


def refusal_of(blob: bytes) -> str:
    with pytest.raises(InvalidInput) as refusal:
        check_model_text(blob)
    assert refusal.value.code == "broken_model"
    return refusal.value.message


def changed(blob: bytes, line: bytes, change) -> bytes:
    """The blob with the first such line of a tree changed, and the tree's size in the head made to fit."""
    found = re.search(rb"(?m)^" + line + rb"=(.*)$", blob)
    assert found
    new = change(found.group(1).split(b" "))
    out = blob[: found.start(1)] + b" ".join(new) + blob[found.end(1) :]
    sizes = re.search(rb"tree_sizes=(\d+)", out)
    assert sizes
    size = int(sizes.group(1)) + len(out) - len(blob)
    return out[: sizes.start(1)] + str(size).encode() + out[sizes.end(1) :]


def test_a_whole_model_is_read(model):
    header = check_model_text(model.blob)
    assert header.objective.startswith("binary")
    assert len(header.feature_names) == N_FEATURES
    assert header.n_trees == 40


@pytest.mark.parametrize("blob", [b"", b"hello", b"\x00\x01" * 50, b"tree\n", b"tree\nversion=v4\nend of trees\n"])
def test_what_is_no_model_is_refused(blob):
    refusal_of(blob)


def test_a_model_cut_off_anywhere_before_its_end_is_refused(model):
    end = model.blob.index(b"end of trees")
    for cut in range(0, end, 997):
        refusal_of(model.blob[:cut])


def test_a_tree_that_splits_on_a_feature_out_of_range_is_refused(model):
    assert "feature" in refusal_of(changed(model.blob, b"split_feature", lambda v: [str(N_FEATURES).encode(), *v[1:]]))
    assert "feature" in refusal_of(changed(model.blob, b"split_feature", lambda v: [b"-1", *v[1:]]))


def test_a_tree_with_a_cycle_or_a_child_outside_is_refused(model):
    assert "child" in refusal_of(changed(model.blob, b"left_child", lambda v: [b"0", *v[1:]]))
    assert "child" in refusal_of(changed(model.blob, b"right_child", lambda v: [b"999", *v[1:]]))
    assert "child" in refusal_of(changed(model.blob, b"right_child", lambda v: [b"-999", *v[1:]]))


def test_a_tree_with_too_few_or_unreadable_numbers_is_refused(model):
    assert "entries" in refusal_of(changed(model.blob, b"threshold", lambda v: v[:-1]))
    assert "entries" in refusal_of(changed(model.blob, b"leaf_value", lambda v: [b"nan", *v[1:]]))
    assert "numbers" in refusal_of(changed(model.blob, b"leaf_value", lambda v: [b"x", *v[1:]]))
    assert "count" in refusal_of(changed(model.blob, b"num_leaves", lambda v: [b"-3"]))


def test_a_tree_with_a_category_set_out_of_range_is_refused(model):
    refusal_of(changed(model.blob, b"cat_boundaries", lambda v: [*v[:-1], b"77"]))
    refusal_of(changed(model.blob, b"cat_threshold", lambda v: [*v, b"5"]))


def test_altered_bytes_never_end_the_process(model, tmp_path):
    (tmp_path / "model.txt").write_bytes(model.blob)
    code = (
        "import pathlib, random, numpy as np\n"
        "from engine.errors import InvalidInput\n"
        "from training.native import NativeBooster\n"
        f"blob = pathlib.Path({str(tmp_path / 'model.txt')!r}).read_bytes()\n"
        f"dice, loaded, rows = random.Random(4), 0, np.random.default_rng(1).normal(size=(20, {N_FEATURES})) * 5\n"
        "end = blob.index(b'end of trees')\n"
        "for _ in range(300):\n"
        "    text = bytearray(blob)\n"
        "    for _ in range(dice.randint(1, 3)):\n"
        "        text[dice.randrange(end)] = dice.choice(b'0123456789-. =\\nxe')\n"
        "    try:\n"
        "        booster = NativeBooster(bytes(text))\n"
        "        booster.predict_many(rows)\n"
        "        booster.close()\n"
        "        loaded += 1\n"
        "    except InvalidInput:\n"
        "        pass\n"
        "print('survived', loaded)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert out.returncode == 0, out.stderr[-500:]
    survived, n_loaded = out.stdout.splitlines()[-1].split()
    assert survived == "survived"
    assert 0 < int(n_loaded) < 300  # digits of values may change unseen: that is what the card's sum is for

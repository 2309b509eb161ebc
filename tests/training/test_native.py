"""The C library by ctypes says what the lightgbm package says, and refuses what is broken."""

import gc
import subprocess
import sys
import threading
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from engine.errors import InvalidInput, KairosError
from engine.schema import N_FEATURES
from tests.training.builders import rows_with_gaps, shoppers
from training import lightgbm_library
from training.calibration import Isotonic, Platt
from training.card import sha256_of
from training.fit import Model, fit
from training.native import LightGbmPredictor, NativeBooster

ROOT = Path(__file__).resolve().parents[2]


def test_the_native_library_predicts_what_the_package_predicts(model):
    rows = rows_with_gaps(500, seed=5)
    expected = lightgbm.Booster(model_str=model.blob.decode()).predict(rows)
    booster = NativeBooster(model.blob)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(booster.predict_many(rows), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose([booster.predict_one(row) for row in rows], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(booster.predict_many(rows[:5]), expected[:5], rtol=0, atol=1e-12)


def test_rows_that_are_no_contiguous_float64_are_read_right(model):
    rows = rows_with_gaps(40, seed=6)[3:]
    booster = NativeBooster(model.blob)
    expected = booster.predict_many(rows)
    np.testing.assert_array_equal(booster.predict_many(np.asfortranarray(rows)), expected)
    np.testing.assert_array_equal(booster.predict_one(np.asfortranarray(rows)[5]), expected[5])


def test_categories_decide_and_unseen_ones_count_as_none_of_the_set(model):
    table = shoppers()
    booster = NativeBooster(model.blob)
    row = np.nan_to_num(table.x[0], nan=np.nan)
    device = table.features.index("device_code")
    answers = {}
    for code in (1.0, 3.0, 399.0, np.nan):
        row[device] = code
        answers[code] = booster.predict_one(row)
    assert answers[3.0] > answers[1.0]


def test_no_rows_give_no_answers(model):
    assert NativeBooster(model.blob).predict_many(np.empty((0, N_FEATURES))).shape == (0,)


@pytest.mark.parametrize("shape", [(N_FEATURES - 1,), (N_FEATURES + 1,), (1, N_FEATURES), ()])
def test_a_row_of_another_shape_is_refused(model, shape):
    with pytest.raises(InvalidInput, match=f"{N_FEATURES} features") as refusal:
        NativeBooster(model.blob).predict_one(np.zeros(shape))
    assert refusal.value.code == "broken_model"


@pytest.mark.parametrize("shape", [(2, N_FEATURES - 1), (20, N_FEATURES + 1), (N_FEATURES,)])
def test_rows_of_another_shape_are_refused(model, shape):
    with pytest.raises(InvalidInput, match=f"{N_FEATURES} features"):
        NativeBooster(model.blob).predict_many(np.zeros(shape))


def test_a_closed_model_answers_no_more_and_closing_twice_is_harmless(model):
    booster = NativeBooster(model.blob)
    booster.close()
    booster.close()
    assert booster.closed
    for ask in (
        lambda: booster.predict_one(np.zeros(N_FEATURES)),
        lambda: booster.predict_many(np.zeros((50, N_FEATURES))),
    ):
        with pytest.raises(InvalidInput, match="closed"):
            ask()


def test_an_abandoned_model_is_freed(model):
    booster = NativeBooster(model.blob)
    close = booster._close
    assert close.alive
    del booster
    gc.collect()
    assert not close.alive


def test_threads_sharing_one_model_get_their_own_answers(model):
    rows = rows_with_gaps(64, seed=8)
    booster = NativeBooster(model.blob)
    expected = booster.predict_many(rows)
    wrong: list[int] = []

    def ask(index: int) -> None:
        wrong.extend(index for _ in range(400) if booster.predict_one(rows[index]) != expected[index])

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_importing_the_native_predictor_loads_no_heavy_package(model, tmp_path):
    (tmp_path / "model.txt").write_bytes(model.blob)
    code = (
        "import sys, pathlib, numpy as np\n"
        "from training.native import NativeBooster\n"
        "from training.train import train_from_table\n"
        f"b = NativeBooster(pathlib.Path({str(tmp_path / 'model.txt')!r}).read_bytes())\n"
        f"print(repr(b.predict_one(np.full({N_FEATURES}, np.nan))))\n"
        "print([m for m in ('lightgbm', 'pandas', 'sklearn', 'scipy', 'pyarrow') if m in sys.modules])\n"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    value, loaded = out.stdout.splitlines()
    assert loaded == "[]"
    assert float(value) == NativeBooster(model.blob).predict_one(np.full(N_FEATURES, np.nan))


def test_a_missing_openmp_runtime_names_the_debian_package(tmp_path, monkeypatch):
    def refuse(path: str) -> None:
        raise OSError("libgomp.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(lightgbm_library.ctypes, "PyDLL", refuse)
    with pytest.raises(KairosError, match="apt-get install libgomp1") as refusal:
        lightgbm_library.LightGbm(tmp_path / "lib_lightgbm.so")
    assert refusal.value.code == "libgomp_missing"


def test_a_library_that_is_none_is_refused_with_its_own_code(tmp_path):
    (tmp_path / "lib_lightgbm.so").write_bytes(b"no library")
    with pytest.raises(KairosError) as refusal:
        lightgbm_library.LightGbm(tmp_path / "lib_lightgbm.so")
    assert refusal.value.code == "lightgbm_unloadable"


def test_a_predictor_applies_the_calibration_of_its_card(model):
    rows = rows_with_gaps(60, seed=9)
    raw = NativeBooster(model.blob).predict_many(rows)
    for calibration in (Platt(slope=0.7, intercept=-0.4), Isotonic(x=(0.05, 0.2, 0.6), y=(0.01, 0.3, 0.5))):
        predictor = LightGbmPredictor(model.card.model_copy(update={"calibration": calibration}), model.blob)
        many = predictor.predict_many(rows)
        np.testing.assert_allclose(many, calibration.many(raw), rtol=0, atol=1e-15)
        np.testing.assert_allclose([predictor.predict_one(row) for row in rows], many, rtol=0, atol=1e-12)
        assert np.abs(many - raw).max() > 0.01


def test_a_predictor_says_who_it_is(model):
    predictor = model.predictor()
    assert (predictor.kind, predictor.version, predictor.schema_hash) == (
        "lightgbm", model.card.version, model.card.schema_hash,
    )  # fmt: skip


def test_a_card_and_bytes_that_do_not_belong_together_are_refused(model):
    other = fit(shoppers(seed=11), {"n_rounds": 3}, seed=1)
    with pytest.raises(InvalidInput, match="do not match the sum") as refusal:
        LightGbmPredictor(model.card, other.blob)
    assert refusal.value.code == "broken_model"
    short = model.card.model_copy(update={"features": model.card.features[:-1]})
    with pytest.raises(InvalidInput, match=f"card names {N_FEATURES - 1}"):
        LightGbmPredictor(short, model.blob)


def test_a_model_of_something_other_than_a_probability_is_refused(model):
    regression = fit(shoppers(), {"objective": "regression", "n_rounds": 3})
    with pytest.raises(InvalidInput, match="not predict a probability"):
        regression.predictor()


def test_a_model_of_several_classes_is_refused():
    rng = np.random.default_rng(0)
    data = lightgbm.Dataset(rng.normal(size=(200, 3)), rng.integers(0, 3, 200))
    blob = lightgbm.train({"objective": "multiclass", "num_class": 3, "verbosity": -1}, data, 2).model_to_string()
    with pytest.raises(InvalidInput, match="several classes"):
        NativeBooster(blob.encode())


def test_a_model_that_learned_nothing_still_answers_its_base_rate():
    constant: Model = fit(shoppers(), {"min_data_in_leaf": 500, "n_rounds": 5})
    assert constant.predictor().predict_one(np.zeros(N_FEATURES)) == pytest.approx(shoppers().y.mean(), abs=1e-6)
    assert constant.card.sha256 == sha256_of(constant.blob)

"""Fitting is deterministic, its figures are honest, and what is too good is named."""

import numpy as np
import pytest

from engine.errors import InvalidInput
from engine.predictor import Predictor
from engine.schema import N_FEATURES
from tests.training.builders import csv_lines, shoppers, write
from training.calibration import fit_isotonic, fit_platt
from training.card import ModelCard, sha256_of
from training.fit import fit
from training.holdout import cross_calibrated, last_in_time, predict_held_out, stratified
from training.leakage import column_auc, find_leaks
from training.metrics import auc, calibration_error, log_loss
from training.metrics import calibration_bins as bins
from training.table import read_table
from training.train import read_model, train, train_from_table, write_model


def test_the_same_data_and_seed_give_the_same_bytes_and_version():
    one, two = (fit(shoppers(), {"n_rounds": 15}, seed=4, created_ms=at) for at in (1, 2))
    assert one.blob == two.blob
    assert one.card.version == two.card.version
    assert fit(shoppers(), {"n_rounds": 15}, seed=5).blob != one.blob


def test_threads_do_not_change_what_a_model_answers():
    rows = shoppers(seed=9).x
    one, two = (fit(shoppers(), {"n_rounds": 15, "n_threads": n}, seed=4).predictor() for n in (1, 2))
    np.testing.assert_allclose(one.predict_many(rows), two.predict_many(rows), rtol=0, atol=1e-12)


def test_the_predictor_keeps_the_protocol_of_the_engine(model):
    predictor: Predictor = model.predictor()
    assert 0 < predictor.predict_one(shoppers().x[0]) < 1


def test_column_names_that_lightgbm_forbids_are_fitted_and_kept_in_the_card(tmp_path):
    lines = csv_lines(header='"items[0].price, €",shop name:x,bought')
    result = train_from_table(write(tmp_path / "t.csv", lines), "bought", created_ms=1, params={"n_rounds": 5})
    assert result.card.features == ("items[0].price, €", "shop name:x")
    assert result.model.predictor().predict_one(np.array([0.9, 1.0])) > 0.3


def test_parameters_that_lightgbm_refuses_are_refused_in_words():
    with pytest.raises(InvalidInput, match="LightGBM refuses") as refusal:
        fit(shoppers(), {"num_leaves": 1})
    assert refusal.value.code == "bad_parameters"


def test_the_card_holds_what_was_learned_from_and_survives_json(tmp_path):
    result = train_from_table(write(tmp_path / "t.csv", csv_lines()), "bought", seed=2, created_ms=77,
                              params={"n_rounds": 20}, calibration="platt")  # fmt: skip
    card = result.card
    assert (card.n_rows, card.n_positive, card.created_ms, card.seed) == (200, 66, 77, 2)
    assert (card.source, card.label, card.positive) == ("t.csv", "bought", "1")
    assert card.sha256 == sha256_of(result.model.blob)
    assert card.parameters["n_rounds"] == 20
    assert card.servable
    assert ModelCard.from_json(card.to_json()) == card


def test_a_card_that_is_none_names_the_field(model):
    with pytest.raises(InvalidInput, match="n_rows") as refusal:
        ModelCard.from_json(model.card.to_json().replace(b'"n_rows": 600', b'"n_rows": "many"'))
    assert refusal.value.code == "broken_card"
    with pytest.raises(InvalidInput):
        ModelCard.from_json(b"{")


def test_a_model_written_to_a_folder_reads_back_and_answers_the_same(tmp_path, model):
    write_model(model, tmp_path / "deep" / "er")
    back = read_model(tmp_path / "deep" / "er")
    assert back == model
    assert back.predictor().predict_one(shoppers().x[0]) == model.predictor().predict_one(shoppers().x[0])


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(InvalidInput, match="no model in") as refusal:
        read_model(tmp_path)
    assert refusal.value.code == "model_missing"


def test_folds_are_equal_in_size_and_in_conversions():
    y = shoppers(503).y
    plan = stratified(y, 5, seed=1)
    sizes, positives = np.bincount(plan.fold), np.bincount(plan.fold, weights=y)
    assert np.ptp(sizes) <= 1
    assert np.ptp(positives) <= 1
    assert sizes.sum() == 503


def test_in_time_order_only_the_end_is_held_out():
    plan = last_in_time(100, 5)
    assert (plan.fold == -1).sum() == 80
    assert (plan.fold[80:] == 0).all()
    assert "20 %" in plan.scheme


def test_held_out_figures_do_not_flatter_noise():
    table = shoppers(800)
    rng = np.random.default_rng(3)
    noise = rng.normal(size=table.x.shape)
    result = train(type(table)(table.features, noise, table.y, "none", servable=False), params={"n_rounds": 100})
    assert 0.4 < result.metrics.auc < 0.6
    assert any("no better than the base rate" in note for note in result.notes)


def test_a_time_split_with_one_class_at_its_end_is_refused():
    table = shoppers()
    order = np.argsort(-table.y, kind="stable")
    sorted_table = type(table)(table.features, table.x[order], table.y[order], "x", servable=False)
    with pytest.raises(InvalidInput, match="only one class"):
        train(sorted_table, time_order=True)


def test_platt_and_isotonic_mend_distorted_probabilities():
    rng = np.random.default_rng(5)
    truth = rng.beta(1, 5, 6000)
    y = (rng.random(6000) < truth).astype(float)
    distorted = truth**0.5
    for calibration in (fit_platt(distorted[:3000], y[:3000]), fit_isotonic(distorted[:3000], y[:3000])):
        mended = calibration.many(distorted[3000:])
        assert calibration_error(bins(y[3000:], mended)) < 0.03
        assert log_loss(y[3000:], mended) < log_loss(y[3000:], distorted[3000:]) - 0.05
        np.testing.assert_allclose([calibration.one(p) for p in distorted[:50]], calibration.many(distorted[:50]),
                                   rtol=0, atol=1e-12)  # fmt: skip


def test_calibration_is_judged_on_rows_it_did_not_learn_from():
    rng = np.random.default_rng(6)
    p, y = rng.random(60), (rng.random(60) < 0.3).astype(float)
    flattering = fit_isotonic(p, y).many(p)
    honest = cross_calibrated("isotonic", p, y, np.arange(60) % 5)
    assert log_loss(y, flattering) < log_loss(y, honest)


def test_one_column_is_scored_whatever_the_shape_of_its_dependence():
    rng = np.random.default_rng(7)
    x = rng.normal(size=4000)
    y = (np.abs(x) > 1.2).astype(float)
    assert abs(auc(y, x) - 0.5) < 0.05
    assert column_auc(x, y) > 0.95
    assert column_auc(np.where(y > 0, np.nan, x), y) > 0.99
    assert column_auc(rng.integers(0, 1500, 4000).astype(float), y, categorical=True) < 0.56


def test_a_column_made_from_the_outcome_is_named_and_no_other():
    table = shoppers(1500)
    rng = np.random.default_rng(8)
    x = table.x.copy()
    spot = table.features.index("hover_s")
    x[:, spot] = np.where(rng.random(1500) < 0.9, table.y, 1 - table.y) + rng.normal(scale=0.05, size=1500)
    leaky = type(table)(table.features, x, table.y, table.schema_hash, servable=True, categorical=table.categorical)
    result = train(leaky, params={"n_rounds": 40})
    assert [leak.column for leak in result.leaks] == ["hover_s"]
    assert "--drop hover_s" in result.leaks[0].sentence()
    assert train(table, params={"n_rounds": 40}).leaks == ()


def test_a_rare_value_that_means_conversion_is_named():
    table = shoppers(2000)
    x = table.x.copy()
    sold = np.flatnonzero(table.y > 0)[:40]
    spot = table.features.index("n_purchases")
    x[:, spot] = 0.0
    x[sold, spot] = 1.0
    leaky = type(table)(table.features, x, table.y, table.schema_hash, servable=True)
    plan, parameters = stratified(leaky.y, 3, 1), dict(fit(leaky, {"n_rounds": 10}).card.parameters)
    leaks = find_leaks(leaky, parameters, plan, 0.7, np.zeros(N_FEATURES))
    assert [(leak.column, leak.certain) for leak in leaks] == [("n_purchases", True)]


@pytest.mark.data
def test_online_shoppers_convert_as_predicted_without_the_page_values(data_sets):
    result = train_from_table(data_sets / "online_shoppers_intention.csv.gz", "Revenue", drop=["PageValues"],
                              created_ms=1)  # fmt: skip
    assert result.card.n_rows == 12_330
    assert result.card.n_positive == 1_908
    assert result.bad == ()
    assert result.metrics.auc >= 0.775
    assert result.metrics.auc < 0.83
    assert result.metrics.calibration_ratio == pytest.approx(1, abs=0.05)
    assert result.leaks == ()
    assert not result.card.servable


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "label", "column"),
    [
        ("online_shoppers_intention.csv.gz", "Revenue", "PageValues"),
        ("bank_additional_first_30000.csv.gz", "y", "duration"),
    ],
)
def test_the_columns_known_only_afterwards_are_named_and_no_others(data_sets, file, label, column):
    result = train_from_table(data_sets / file, label, cv=2, params={"n_rounds": 60}, created_ms=1)
    assert [leak.column for leak in result.leaks] == [column]


@pytest.mark.data
def test_a_bank_learned_early_fails_later_and_the_time_split_shows_it(data_sets):
    path = data_sets / "bank_additional_first_30000.csv.gz"
    result = train_from_table(path, "y", drop=["duration"], time_order=True, params={"n_rounds": 60}, created_ms=1)
    assert result.metrics.log_loss > result.metrics.base_log_loss
    assert any("no better than the base rate" in note for note in result.notes)


@pytest.mark.data
def test_real_rows_get_the_packages_own_predictions(data_sets):
    import lightgbm

    table = read_table(data_sets / "online_shoppers_intention.csv.gz", "Revenue", drop=["PageValues"])
    model = fit(table, {"n_rounds": 60}, seed=1)
    expected = lightgbm.Booster(model_str=model.blob.decode()).predict(table.x)
    predictor = model.predictor()
    np.testing.assert_allclose(predictor.predict_many(table.x), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        [predictor.predict_one(row) for row in table.x[:500]], expected[:500], rtol=0, atol=1e-12
    )


def test_held_out_rows_are_predicted_by_models_that_did_not_see_them():
    table = shoppers(300)
    plan = stratified(table.y, 3, seed=2)
    parameters = dict(fit(table, {"n_rounds": 10}).card.parameters)
    p = predict_held_out(table, parameters, plan)
    flipped = type(table)(table.features, table.x, np.where(plan.fold == 0, 1 - table.y, table.y), "x", servable=False,
                          categorical=table.categorical)  # fmt: skip
    again = predict_held_out(flipped, parameters, plan)
    np.testing.assert_array_equal(p[plan.fold == 0], again[plan.fold == 0])
    assert np.abs(p[plan.fold == 1] - again[plan.fold == 1]).max() > 0.01

"""The commands that work on files: books are validated, keys kept, models trained from tables."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import stat
from pathlib import Path

import pytest

from engine.schema import MODEL_FEATURES
from serving.cli import main
from serving.keys import KeyRing
from serving.settings import Settings
from tests.serving.command_line import PLACES

TYPO = """currency: EUR
campaigns:
  cart:
    placements: [cart_page]
    segments:
      close:
        all: [{feature: scroll_shar, above: 0.7}]
    offers:
      ship:
        when: {segment: close}
        contents: {headline: "Free"}
"""


def a_table(path: Path, n: int = 240) -> Path:
    """Deep visits convert more often."""
    rows = [f"{(i % 97) / 97:.4f},{'north' if i % 2 else 'south'},{int((i * 37) % 97 > 64)}" for i in range(n)]
    path.write_text("\n".join(["depth_seen,shop,bought", *rows]) + "\n")
    return path


# -- validate -----------------------------------------------------------------------------------------------


def test_a_typo_in_a_book_names_file_line_path_found_expected_and_the_nearest_name(tmp_path, capsys):
    book = tmp_path / "book.yaml"
    book.write_text(TYPO)
    assert main(["validate", str(book)]) == 1
    lines = capsys.readouterr().err.splitlines()
    (feature,) = [line for line in lines if "scroll_shar" in line]
    assert feature.startswith(f"{book}:7: campaigns.cart.segments.close.all[0].feature: ")
    assert 'found "scroll_shar", expected' in feature
    assert feature.endswith("(did you mean scroll_share?)")
    (content,) = [line for line in lines if "(did you mean content?)" in line]
    assert content.startswith(f"{book}:11: ")
    assert lines[-1].endswith("mistakes")


def test_the_findings_as_json_are_the_same(tmp_path, capsys):
    book = tmp_path / "book.yaml"
    book.write_text(TYPO)
    assert main(["validate", str(book), "--json"]) == 1
    told_ = json.loads(capsys.readouterr().out)
    assert told_["valid"] is False
    assert {"line": 7, "nearest": "scroll_share"}.items() <= told_["errors"][0].items()


@pytest.mark.parametrize("name", ["cart_recovery.yaml", "minimal.yaml"])
def test_the_shipped_books_are_valid_and_their_parts_are_counted(name, capsys):
    assert main(["validate", str(PLACES / "serving" / "samples" / name)]) == 0
    assert re.search(r": ok: \d campaigns?, \d+ segments?, \d+ offers?, ", capsys.readouterr().out)


def test_several_books_are_all_looked_at_and_one_mistake_is_enough(tmp_path, capsys):
    good, bad = PLACES / "serving" / "samples" / "minimal.yaml", tmp_path / "bad.yaml"
    bad.write_text("currency: EURO\ncampaigns: {}\n")
    assert main(["validate", str(bad), str(good)]) == 1
    out, err = capsys.readouterr()
    assert (f"{good}: ok" in out, f"{bad}:1: currency: found" in err) == (True, True)
    assert main(["validate", str(good), str(good), "--json"]) == 0
    assert [json.loads(line)["valid"] for line in capsys.readouterr().out.splitlines()] == [True, True]


def test_a_book_that_is_not_there_is_wrong_usage(tmp_path, capsys):
    assert main(["validate", str(tmp_path / "none.yaml")]) == 2
    assert "no such file (book_not_found)" in capsys.readouterr().err


# -- keys ---------------------------------------------------------------------------------------------------


def test_a_new_key_opens_its_scopes_and_only_its_hash_is_kept(tmp_path, capsys):
    file = tmp_path / "keys.jsonl"
    assert main(["keys", "new", "--scopes", "write,decide", "--label", "shop", "--file", str(file)]) == 0
    plain = capsys.readouterr().out.strip()
    assert plain not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    ring = KeyRing.load(Settings(keys_file=file), {})
    assert ring.scopes_of(f"Bearer {plain}") == {"write", "decide"}


def test_keys_are_listed_and_revoked_by_the_name_the_list_shows(tmp_path, capsys):
    file = str(tmp_path / "keys.jsonl")
    for label in ("shop", "ops"):
        main(["keys", "new", "--scopes", "admin", "--label", label, "--file", file])
    capsys.readouterr()
    assert main(["keys", "list", "--file", file, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["label"], second["scopes"]) == ("shop", ["admin", "decide", "write"])
    assert main(["keys", "revoke", first["id"], "--file", file]) == 0
    capsys.readouterr()
    main(["keys", "list", "--file", file])
    listed = capsys.readouterr().out
    assert "ops" in listed
    assert "shop" not in listed


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["new", "--scopes", "wirte"], 2, "bad_scope"),
        (["revoke", "nobody"], 2, "no_key_file"),
        (["list"], 2, "no_key_file"),
    ],
)
def test_wrong_use_of_keys_is_told(words, code, named, tmp_path, capsys):
    assert main(["keys", *words, "--file", str(tmp_path / "keys.jsonl")]) == code
    assert f"({named})" in capsys.readouterr().err


def test_a_key_that_is_not_there_cannot_be_revoked(tmp_path, capsys):
    file = str(tmp_path / "keys.jsonl")
    main(["keys", "new", "--scopes", "write", "--file", file])
    assert main(["keys", "revoke", "nobody", "--file", file]) == 1
    assert "(unknown_key)" in capsys.readouterr().err


# -- train --------------------------------------------------------------------------------------------------


def test_train_tells_held_out_figures_and_writes_the_model(tmp_path, capsys):
    table = a_table(tmp_path / "visits.csv")
    out = tmp_path / "model"
    assert main(["train", "--from", str(table), "--label", "bought", "--cv", "3", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^AUC +0\.\d{4}$", shown, re.M)
    assert "servable    no: " in shown
    assert json.loads((out / "card.json").read_text())["n_rows"] == 240
    assert (out / "model.txt").stat().st_size > 0


def test_train_as_json_is_one_object_and_the_same_seed_is_the_same_model(tmp_path, capsys):
    table = a_table(tmp_path / "visits.csv")
    versions = set()
    for _ in range(2):
        assert main(["train", "--from", str(table), "--label", "bought", "--cv", "2", "--drop", "shop", "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["features"] == ["depth_seen"]
        versions.add(facts["version"])
    assert len(versions) == 1


def test_a_label_that_is_not_there_names_the_nearest_column(tmp_path, capsys):
    assert main(["train", "--from", str(a_table(tmp_path / "t.csv")), "--label", "bougt"]) == 2
    assert "did you mean 'bought'?" in capsys.readouterr().err


def test_publishing_without_a_running_kairos_is_told_before_anything_is_fitted(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    words = ["--publish", "--data-dir", str(tmp_path)]
    assert main(["train", "--from", str(tmp_path / "none.csv"), "--label", "x", *words]) == 1
    assert "(no_store)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_servable_model_is_put_in_force_in_a_running_store_and_others_are_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    table = tmp_path / "engine.csv.gz"
    rows = [f"{(i % 97) / 97:.4f},{i % 3},{int((i * 37) % 97 > 64)}" for i in range(240)]
    assert {"depth", "n_cart_items"} <= set(MODEL_FEATURES)
    table.write_bytes(gzip.compress("\n".join(["depth,n_cart_items,bought", *rows]).encode()))
    leaking = tmp_path / "leaking.csv"
    known_after = [f"{row.rpartition(',')[0]},{row[-1]},{row[-1]}" for row in rows]
    leaking.write_text("\n".join(["depth,n_cart_items,n_purchases,bought", *known_after]))

    async def story() -> tuple[int, int, int, dict[str, object]]:
        from actors.embedded import EmbeddedStore
        from actors.valkey import valkey_stores

        store = EmbeddedStore(tmp_path / "data")
        await store.start()
        try:
            words = ["--label", "bought", "--cv", "2", "--publish", "--data-dir", str(tmp_path / "data")]
            good = await asyncio.to_thread(main, ["train", "--from", str(table), "--json", *words])
            foreign = a_table(tmp_path / "foreign.csv")
            bad = await asyncio.to_thread(main, ["train", "--from", str(foreign), *words])
            leaks = await asyncio.to_thread(main, ["train", "--from", str(leaking), *words])
            stores = valkey_stores(store.url)
            world = await stores.versions.world()
            await stores.close()
            return good, bad, leaks, world
        finally:
            await store.stop()

    good, bad, leaks, world = asyncio.run(story())
    said = capsys.readouterr()
    assert (good, bad, leaks) == (0, 2, 2), said.err
    assert world["model"] == json.loads(said.out)["version"]
    assert "(not_servable)" in said.err
    assert "not published: column 'n_purchases'" in said.err
    assert "(leaking)" in said.err

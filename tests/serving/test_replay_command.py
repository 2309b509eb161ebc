"""`kairos replay` as people meet it: over real HTTP, with one clear line for everything that is wrong."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from serving.cli import main

MAP = """\
format: {kind: csv}
identity: {anonymousId: who}
timestamp: {column: at}
event: Clicked
"""
ROWS = "who,at\n" + "".join(f"v{n % 3},2024-05-01T00:00:{n:02d}\n" for n in range(30)) + "torn\n"


class _Batch(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        batch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["batch"]
        body = json.dumps({"success": True, "accepted": len(batch), "duplicates": 0, "rejected": []}).encode()
        self.server.seen.append((self.path, self.headers.get("Authorization"), len(batch)))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Batch)
    server.seen = []  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "map.yaml").write_text(MAP)
    (tmp_path / "rows.csv").write_text(ROWS)
    return str(tmp_path / "rows.csv"), str(tmp_path / "map.yaml")


def test_a_file_is_sent_and_summed_up(
    server: ThreadingHTTPServer, files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows, map_file = files
    url = f"http://127.0.0.1:{server.server_address[1]}"
    assert main(["replay", rows, "--map", map_file, "--url", url, "--key", "k1", "--backfill", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "lines": 32, "events": 30, "skipped": 0, "malformed": 1, "accepted": 30, "duplicates": 0, "rejected": {},
        "profiles": 3, "profilesExact": True, "retries": 0,
    }  # fmt: skip
    assert f"{rows}:32: skipped: 1 columns, expected 2" in err.replace("\n", "")
    seen = server.seen  # type: ignore[attr-defined]
    assert {(path, key) for path, key, _ in seen} == {("/v1/batch?backfill=true", "Bearer k1")}
    assert sum(n for _, _, n in seen) == 30


def test_the_summary_is_for_people_unless_json_is_asked_for(
    server: ThreadingHTTPServer, files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows, map_file = files
    url = f"http://127.0.0.1:{server.server_address[1]}"
    assert main(["replay", rows, "--map", map_file, "--url", url, "--limit", "7"]) == 0
    out = capsys.readouterr().out
    assert "of 3 profiles" in out
    assert [line.split()[:2] for line in out.splitlines()[1:3]] == [["events", "7"], ["accepted", "7"]]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("identity: {anonymousId: who}", "identity: {anonymousId: woh}"), "map.yaml:2: identity.anonymousId"),
        (("format: {kind: csv}", "fromat: {kind: csv}"), "did you mean format?"),
    ],
)
def test_a_mistake_in_the_map_is_exit_code_2_and_names_its_line(
    files: tuple[str, str], change: tuple[str, str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, map_file = files
    Path(map_file).write_text(MAP.replace(*change))
    assert main(["replay", rows, "--map", map_file]) == 2
    assert expected in capsys.readouterr().err


def test_what_cannot_be_meant_is_exit_code_2(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, map_file = files
    assert main(["replay", str(tmp_path / "absent.csv"), "--map", map_file]) == 2
    assert main(["replay", rows, "--map", "otot"]) == 2
    assert main(["replay", rows, "--map", map_file, "--backfill", "--speed", "2"]) == 2
    (tmp_path / "torn.gz").write_bytes(b"\x1f\x8b broken")
    assert main(["replay", str(tmp_path / "torn.gz"), "--map", map_file]) == 2
    errors = capsys.readouterr().err
    for wanted in ("absent.csv", "did you mean the shipped map otto?", "give one", "gzip is broken"):
        assert wanted in errors
    assert "Traceback" not in errors


def _of(folder: Path, content: bytes, map_text: str = MAP) -> tuple[str, str]:
    (folder / "map.yaml").write_text(map_text)
    (folder / "rows.csv").write_bytes(content)
    return str(folder / "rows.csv"), str(folder / "map.yaml")


@pytest.mark.parametrize(
    ("content", "map_text", "said"),
    [
        (gzip.compress(ROWS.encode())[:60], MAP, "the gzip is broken"),
        (gzip.compress(ROWS.encode())[:12], MAP, "the gzip is broken"),
        (b"", MAP, "found nothing, expected a line that names the columns"),
        (b"who,at,kind\nv,2024-05-01,x\n", MAP.replace("Clicked", "kind"), "expected {column: kind, other: keep}"),
    ],
    ids=["gzip cut in its rows", "gzip cut in its head", "empty", "a column taken for a name"],
)
def test_a_file_that_cannot_be_read_is_told_in_one_line(
    server: ThreadingHTTPServer, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    content: bytes, map_text: str, said: str,
) -> None:  # fmt: skip
    rows, map_file = _of(tmp_path, content, map_text)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    assert main(["replay", rows, "--map", map_file, "--url", url]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert (rows in err or map_file in err, err.count("error:")) == (True, 1)


@pytest.mark.parametrize("url", ["kairos.internal", "ftp://127.0.0.1:1"])
def test_an_address_that_is_none_is_told_at_once(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], url: str
) -> None:
    assert main(["replay", files[0], "--map", files[1], "--url", url]) == 2
    assert "(bad_url)" in capsys.readouterr().err


def test_letters_of_other_encodings_neither_merge_visitors_nor_stop_the_file(
    server: ThreadingHTTPServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, map_file = _of(tmp_path, "who,at\nzoé,2024-05-01\nzoè,2024-05-01\nzoe,2024-05-01\n".encode("latin-1"))
    url = f"http://127.0.0.1:{server.server_address[1]}"
    assert main(["replay", rows, "--map", map_file, "--url", url, "--json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["events"], json.loads(out)["malformed"]) == (1, 2)
    assert "rows.csv:2: skipped: its identity is not UTF-8" in err.replace("\n", "")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_file_of_a_spreadsheet_is_read(
    server: ThreadingHTTPServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], encoding: str
) -> None:
    rows, map_file = _of(tmp_path, "who\tat\r\nzoé\t2024-05-01\r\n".encode(encoding))
    url = f"http://127.0.0.1:{server.server_address[1]}"
    assert main(["replay", rows, "--map", map_file, "--url", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["events"] == 1

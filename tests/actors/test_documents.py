"""What every store of documents must do, run over the in-memory reference and over a real Valkey."""

from __future__ import annotations

import asyncio

from actors.stores import Stores


async def test_a_document_is_made_once_and_changed_only_from_the_rev_that_was_read(stores: Stores) -> None:
    documents = stores.documents
    assert await documents.get("run.1") is None
    assert not await documents.compare_and_set("run.1", 3, {"state": "lost"})
    assert await documents.compare_and_set("run.1", 0, {"state": "running", "share": 0.5})
    assert not await documents.compare_and_set("run.1", 0, {"state": "twice"})
    assert await documents.get("run.1") == (1, {"state": "running", "share": 0.5})
    assert await documents.compare_and_set("run.1", 1, {"state": "done"})
    assert not await documents.compare_and_set("run.1", 1, {"state": "stale"})
    assert await documents.get("run.1") == (2, {"state": "done"})


async def test_of_many_who_change_a_document_at_once_one_succeeds(stores: Stores) -> None:
    won = await asyncio.gather(*(stores.documents.compare_and_set("r", 0, {"by": i}) for i in range(8)))
    assert won.count(True) == 1
    assert await stores.documents.get("r") == (1, {"by": won.index(True)})


async def test_documents_are_listed_by_the_beginning_of_their_names_and_in_order(stores: Stores) -> None:
    for name in ("run.b", "run.a", "rollout.1"):
        assert await stores.documents.compare_and_set(name, 0, {"name": name})
    assert [name for name, _, _ in await stores.documents.list("run.")] == ["run.a", "run.b"]
    assert await stores.documents.list("rollout.") == [("rollout.1", 1, {"name": "rollout.1"})]
    assert await stores.documents.list("none.") == []


async def test_a_deleted_document_is_gone_and_can_be_made_anew(stores: Stores) -> None:
    await stores.documents.compare_and_set("run.1", 0, {"a": 1})
    assert await stores.documents.delete("run.1")
    assert not await stores.documents.delete("run.1")
    assert await stores.documents.get("run.1") is None
    assert await stores.documents.compare_and_set("run.1", 0, {"a": 2})

"""Redeeming an offer of a decision: once, decided in the same moment in which it is written down."""

from __future__ import annotations

from typing import Any

from actors.operations import Reply, Scene, locate
from engine.ids import message_hash
from engine.record import signals_record
from engine.signals import Signal
from engine.stubs import LIVE


def redeem(scene: Scene, payload: dict[str, Any]) -> Reply:
    """Whether an offer of a decision can still be redeemed; where that is asked for, it is, in the same moment."""
    found = locate(scene.partition, payload["track"])
    if isinstance(found, dict):
        return {"forward": found["moved"]} if "moved" in found else found
    decision_id, offer = payload["decision_id"], payload["offer"]
    seen = found.view()
    stub = seen.decisions.get(decision_id)
    if stub is not None and stub.state != LIVE:
        return {"valid": False, "reason": "SUPERSEDED"}
    for t_ms, redeemed, *which in seen.offer_times:
        if redeemed and which == [offer, decision_id]:
            return {"valid": False, "reason": "REDEEMED", "redeemedMs": t_ms}
    if payload.get("redeem"):
        message = message_hash(scene.key, f"redemption\x00{decision_id}\x00{offer}")
        signal = Signal("offer_redeemed", scene.now_ms, message, {"decision_id": decision_id, "offer_id": offer})
        scene.partition.write(signals_record(found.track_id, scene.now_ms, 0, [scene.desk.hear(signal)], found.root))
    return {"valid": True, "redeemed": bool(payload.get("redeem"))}

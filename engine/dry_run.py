"""What another book would have decided: recorded decisions taken again by the same `decide`, and what differs.

Each decision is taken again by itself, from the inputs that were recorded with it. What the visitor's segments, caps
and holdout would have become had the other book been in force for longer is not simulated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.assumed import assumed
from engine.decide import decide
from engine.decision import CHOSEN, NO_OFFERS, NOT_DRAWN, Decision
from engine.dice import SeededDice
from engine.explain import explain
from engine.ids import profile_id
from engine.inputs import Inputs
from engine.record import ENGINE_VERSION, Record, Versions
from engine.schema import schema_hash
from engine.world import World

ABSENT: Final = "ABSENT"
"""In the place of a reason: the offer is not in the campaign that decided."""
SEEN: Final = ("placement", "campaign", "items", "content", "segments", "treatment", "holdout", "variants", "reason")
"""Kinds of change that make a decision another one, each counted where it occurs."""
FIGURES: Final = "figures"
"""The kind of change that shows nowhere: another score or other propensities, and the same answer."""
MAX_EXAMPLES: Final = 20
Summary = dict[str, Any]
NOTHING: Final[Summary] = {
    "decisions": 0, "changed": 0, "decidedAgain": 0, "unreadable": 0, "from": None, "until": None, "kinds": {},
    "segments": {}, "offers": {}, "reasons": {}, "changedIds": [], "examples": [],
}  # fmt: skip
"""The summary of no decision at all."""


@dataclass(frozen=True, slots=True)
class Past:
    """A recorded decision, and what the book in force answers to it; `again` where that had to be decided again."""

    decision_id: str
    at_ms: int
    seed: int
    rung: str
    inputs: Inputs
    decision: Decision
    again: bool

    @classmethod
    def read(cls, decision_id: str, record: Record, current: World) -> Past | None:
        """From a journal record; None for one of another feature schema, whose inputs say something else.

        A record of the versions in force holds their answer already.
        """
        _, _, now_ms, seed, rung, versions, _, inputs_row, decision_row = record[:9]
        schema = schema_hash()
        if versions[3] != schema:
            return None
        inputs = Inputs.from_list(inputs_row)
        in_force = Versions(
            ENGINE_VERSION, current.book.version, current.model_version, schema, current.churn_version,
            posteriors=current.posteriors_version,
        )  # fmt: skip
        if versions == in_force.to_list():
            return cls(decision_id, now_ms, seed, rung, inputs, Decision.from_list(decision_row), False)
        decision = decide(inputs, current, now_ms=now_ms, rng=SeededDice(seed), rung=rung)
        return cls(decision_id, now_ms, seed, rung, inputs, decision, True)


class DryRun:
    """Compares decision by decision; `summary` is JSON-ready, and summaries of several shards can be merged."""

    def __init__(self, current: World, proposed: World, max_examples: int = MAX_EXAMPLES) -> None:
        self._current, self._proposed, self._max_examples = current, proposed, max_examples
        self._counts = Counter(decisions=0, changed=0, decidedAgain=0, unreadable=0)
        self._kinds: Counter[str] = Counter()
        self._segments: dict[str, Counter[str]] = {}
        self._offers: dict[str, Counter[str]] = {}
        self._reasons: dict[str, Counter[str]] = {}
        self._changed: list[str] = []
        self._examples: list[Summary] = []
        self._between: list[int] = []

    def add(self, decision_id: str, record: Record) -> None:
        """Take one recorded decision again, by both books where it must be."""
        past = Past.read(decision_id, record, self._current)
        if past is None:
            self.skip()
            return
        before = past.decision
        after = decide(
            assumed(past.inputs, self._proposed.book),
            self._proposed,
            now_ms=past.at_ms,
            rng=SeededDice(past.seed),
            rung=past.rung,
        )
        self._counts["decisions"] += 1
        self._counts["decidedAgain"] += past.again
        self._between = [min([past.at_ms, *self._between[:1]]), max([past.at_ms, *self._between[1:]])]
        _tally(self._segments, _segment_keys(before), _segment_keys(after), "entered", "left")
        _tally(self._offers, set(before.served), set(after.served), "gained", "lost")
        kinds = changes(before, after)
        if past.inputs.request.placement not in self._proposed.book.placements:
            kinds = ["placement", *kinds]
        self._kinds.update(kinds)
        if not kinds or kinds == [FIGURES]:
            return
        self._counts["changed"] += 1
        self._changed.append(decision_id)
        for offer, was, now in reasons(before, after):
            self._reasons.setdefault(offer, Counter())[f"{was} → {now}"] += 1
        if len(self._examples) < self._max_examples:
            self._examples.append(self._example(past, after, kinds))

    def skip(self) -> None:
        """Count a decision that cannot be taken again."""
        self._counts["unreadable"] += 1

    def summary(self) -> Summary:
        """Counts, what changes for each segment and offer, the ids of the decisions that change, examples."""
        return {
            **self._counts,
            "from": self._between[0] if self._between else None,
            "until": self._between[1] if self._between else None,
            "kinds": dict(self._kinds),
            "segments": {key: dict(counts) for key, counts in sorted(self._segments.items())},
            "offers": {key: dict(counts) for key, counts in sorted(self._offers.items())},
            "reasons": {key: dict(counts) for key, counts in sorted(self._reasons.items())},
            "changedIds": self._changed,
            "examples": self._examples,
        }

    def _example(self, past: Past, after: Decision, kinds: list[str]) -> Summary:
        inputs, before = past.inputs, past.decision
        was = explain(inputs, self._current, before, past.at_ms)
        now = explain(inputs, self._proposed, after, past.at_ms)
        return {
            "decisionId": past.decision_id,
            "profileId": profile_id(inputs.root),
            "atMs": past.at_ms,
            "placement": inputs.request.placement,
            "changes": kinds,
            "before": _shown(before),
            "after": _shown(after),
            "why": [*_why(before, after, kinds), *_why_segments(was, now), *_why_offers(before, after, was, now)],
        }


def changes(before: Decision, after: Decision) -> list[str]:
    """The kinds of change between two answers to the same request, `FIGURES` only where there is no other."""
    pairs = {
        "campaign": (before.campaign, after.campaign),
        "items": ([i.id for i in before.items], [i.id for i in after.items]),
        "segments": (before.segments, after.segments),
        "treatment": ((before.layout, before.media), (after.layout, after.media)),
        "holdout": (before.holdout, after.holdout),
        "variants": (before.variants, after.variants),
        "reason": (before.plain, after.plain),
    }
    found = [kind for kind, (was, now) in pairs.items() if was != now]
    if "items" not in found and [i.content for i in before.items] != [i.content for i in after.items]:
        found.append("content")
    if not found and _figures(before) != _figures(after):
        found.append(FIGURES)
    return found


def reasons(before: Decision, after: Decision) -> list[tuple[str, str, str]]:
    """(`campaign.offer`, reason before, reason after) for each offer judged differently, in the order of the book."""
    was = {f"{before.campaign}.{v.offer}": v.reason for v in before.verdicts}
    now = {f"{after.campaign}.{v.offer}": v.reason for v in after.verdicts}
    both = ((key, was.get(key, ABSENT), now.get(key, ABSENT)) for key in {**was, **now})
    return [(key, a, b) for key, a, b in both if a != b]


def merged(parts: Iterable[Summary], max_examples: int = MAX_EXAMPLES) -> Summary:
    """The summaries of several shards as one; of their examples the newest."""
    parts = list(parts)
    total: Summary = dict(NOTHING)
    for name in total:
        values = [part[name] for part in parts if part[name] is not None]
        if name in ("from", "until"):
            total[name] = (min if name == "from" else max)(values, default=None)
        elif name == "examples":
            newest = sorted((e for value in values for e in value), key=lambda e: (-e["atMs"], e["decisionId"]))
            total[name] = newest[:max_examples]
        elif name == "changedIds":
            total[name] = [one for value in values for one in value]
        else:
            total[name] = _sum(values, total[name])
    return total


def _sum(values: list[Any], nothing: Any) -> Any:
    if not isinstance(nothing, dict):
        return sum(values)
    keys = sorted({key for value in values for key in value})
    columns = {key: [value[key] for value in values if key in value] for key in keys}
    return {key: _sum(column, {} if isinstance(column[0], Mapping) else 0) for key, column in columns.items()}


def _tally(into: dict[str, Counter[str]], was: set[str], now: set[str], came: str, went: str) -> None:
    for key in was | now:
        counts = into.setdefault(key, Counter({"before": 0, "after": 0, came: 0, went: 0}))
        counts.update(before=key in was, after=key in now)
        counts.update({came: key not in was, went: key not in now})


def _segment_keys(decision: Decision) -> set[str]:
    return {f"{decision.campaign}.{name}" for name in decision.segments}


def _figures(decision: Decision) -> tuple[Any, ...]:
    score = None if decision.score is None else (decision.score.value, decision.score.stage)
    return score, [(s.candidates, s.propensities) for s in decision.slots], decision.next_offer


def _shown(decision: Decision) -> Summary:
    return {
        "campaign": decision.campaign,
        "items": [item.id for item in decision.items],
        "segments": decision.segments,
        "reason": decision.plain,
        "score": None if decision.score is None else decision.score.value,
    }


def _why(before: Decision, after: Decision, kinds: list[str]) -> list[Summary]:
    found: list[Summary] = []
    if "placement" in kinds:
        found.append({"what": "placement", "text": "no campaign of the new book lists this placement"})
    if "campaign" in kinds:
        text = f"decided by {after.campaign or 'no campaign'} instead of {before.campaign or 'none'}"
        found.append({"what": "campaign", "text": text})
    if "holdout" in kinds:
        found.append({"what": "holdout", "text": f"{'enters' if after.holdout else 'leaves'} the holdout"})
    for name in sorted(before.variants.keys() | after.variants.keys()):
        was, now = before.variants.get(name), after.variants.get(name)
        if was != now:
            found.append({"what": f"experiment {name}", "text": f"variant {now or 'none'} instead of {was or 'none'}"})
    if after.plain == NO_OFFERS and before.plain != NO_OFFERS and not found:
        found.append({"what": "offers", "text": "no offer is eligible and Tier 1 suggested nothing"})
    return found


def _why_segments(was: Summary, now: Summary) -> list[Summary]:
    before = {s["name"]: s for s in was.get("segments", ())}
    after = {s["name"]: s for s in now.get("segments", ())}
    found = []
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        member, becomes = bool(old and old["member"]), bool(new and new["member"])
        if member == becomes:
            continue
        if old is None or new is None:
            text = "new here" if old is None else "no longer here"
        else:
            # The clause that kept the visitor out under one book is the one that the other book reads differently.
            clauses = (old if becomes else new)["clauses"]
            failed = next((c["text"] for c in clauses if c["holds"] is not c["wanted"]), "")
            passed = "before" if becomes else "now"
            text = f"{passed}: {failed}" if failed else "its condition changed"
        found.append({"what": f"segment {name}", "change": "entered" if becomes else "left", "text": text})
    return found


def _why_offers(before: Decision, after: Decision, was: Summary, now: Summary) -> list[Summary]:
    texts = [{o["offer"]: o["text"] for o in told.get("offers", ())} for told in (was, now)]
    found = []
    for key, old, new in reasons(before, after):
        name = key.rpartition(".")[2]
        if ABSENT in (new, old):
            text = "not in the campaign that decides now" if new == ABSENT else "not in the campaign that decided"
        elif {old, new} == {CHOSEN, NOT_DRAWN}:
            text = f"drawn with probability {_propensity(before, name):.3g}, now {_propensity(after, name):.3g}"
        elif new in (CHOSEN, NOT_DRAWN):
            text = f"before: {texts[0].get(name, old)}"
        else:
            text = f"now: {texts[1].get(name, new)}"
        found.append({"what": f"offer {name}", "before": old, "after": new, "text": text})
    return found


def _propensity(decision: Decision, offer: str) -> float:
    for slot in decision.slots:
        if offer in slot.candidates:
            return slot.propensities[slot.candidates.index(offer)]
    return 0.0

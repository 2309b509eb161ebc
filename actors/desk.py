"""What a shard looks up and keeps for offers beside the profiles: budgets, products, tokens, what QA forces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from actors.leases import Leases
from actors.partition import Partition
from engine.catalogue import Catalogue, Product
from engine.compiled import CompiledBook
from engine.decision import Decision
from engine.errors import InvalidInput
from engine.features import cart_of
from engine.inputs import Inputs
from engine.served import served_campaign
from engine.signals import Signal
from engine.stubs import Stub
from engine.supply import IN_CART, IN_VIEW, REDEEMED, SEEN, Charge, Forced, Supply
from engine.terms import COST, REDEMPTIONS, CompiledBudget
from engine.tokens import PREVIEW, Redemption, read, read_redemption, redemption_token
from engine.track import Track
from engine.world import CHALLENGER, World

VIEW_MS: Final = 30 * 60_000
"""A product is in view for as long as a visit lasts without another signal."""
PREVIEWED, TESTED = "preview", "qa"


@dataclass(slots=True)
class Desk:
    """Verbs: supply (before a decision), charge and finish (after it), hear (signals), give_back."""

    leases: Leases
    redemption_key: bytes = b""
    preview_key: bytes = b""

    # -- before a decision -----------------------------------------------------------------------------

    def supply(
        self, world: World, track: Track, partition: Partition, payload: dict[str, Any], now_ms: int
    ) -> Supply | None:
        """What there is to offer, None where the book and the request ask for nothing of it.

        Raises:
            engine.errors.InvalidInput: `bad_preview`, `bad_qa`.
        """
        needs, forced = world.book.needs, self._forced(world.book, payload, now_ms)
        budgets = needs.budgets.get(payload["placement"])
        if world.side is not None and world.side.book is not world.book:
            # The book on trial may have budgets of its own; where both have one, that in force counts.
            tried = world.side.book.needs.budgets.get(payload["placement"], ())
            known = {budget.key for budget in budgets or ()}
            budgets = (*(budgets or ()), *(b for b in tried if b.key not in known)) or None
        counted = needs.counted and bool(track.offer_times)
        if budgets is None and world.catalogue is None and not counted and forced is None:
            return None
        supply = Supply(forced=forced)
        if budgets is not None:
            left, index, epoch = self.leases.left, partition.index, partition.epoch
            supply.budgets = {budget.key: left(budget, now_ms, index, epoch) for budget in budgets}
        if world.catalogue is not None:
            _look_up(supply, world.catalogue, world.book, track, now_ms)
        if counted:
            for t_ms, redeemed, offer, _ in track.offer_times:
                supply.counted.setdefault(offer, [[], []])[REDEEMED if redeemed else SEEN].append(t_ms)
        return supply

    def _forced(self, book: CompiledBook, payload: dict[str, Any], now_ms: int) -> Forced | None:
        preview, asked = payload.get("preview"), payload.get("qa")
        if preview is None and asked is None:
            return None
        if preview is not None:
            values = read(PREVIEW, preview, self.preview_key)
            if values is None or values[-1] < now_ms:
                told = "found one that is not ours" if values is None else "found one that has ended"
                raise InvalidInput("bad_preview", f"preview: {told}, expected a token of POST /v1/campaigns/preview")
        if asked is None:
            return Forced(PREVIEWED)
        _check_forced(book, payload["placement"], asked)
        return Forced(TESTED, asked.get("segments"), asked.get("offer"))

    # -- after a decision ------------------------------------------------------------------------------

    def charge(
        self, world: World, decision: Decision, supply: Supply, partition: Partition, root: str, now_ms: int
    ) -> None:
        """Spend what the offers shown cost their budgets, and put the charges on record with the decision."""
        own = world.side if decision.arm == CHALLENGER and world.side is not None else world
        campaign = served_campaign(own.book, decision)
        if campaign is None or not decision.served:
            return
        decision_id = str(partition.next_place())
        budgets = budgets_of(world)
        for key in decision.served:
            if key not in supply.budgets:
                continue
            name = key.partition(".")[2]
            given = (i.discount for i in decision.items if i.id == name and i.discount is not None)
            cost = next(given, campaign.offer_by_name[name].cost)
            amount = cost if budgets[key].unit == COST else 1.0
            charge = self.leases.take(budgets[key], amount, now_ms, partition.index, (decision_id, name), root)
            supply.charges.append(charge)

    def finish(self, body: dict[str, Any], decision: Decision, inputs: Inputs, decision_id: str | None) -> None:
        """Give the items that can be redeemed their tokens, and say so where a decision was for QA."""
        forced = inputs.supply.forced if inputs.supply is not None else None
        if forced is not None:
            body["qa"] = forced.kind
        for item, told in zip(decision.items, body["items"], strict=True):
            # What was forced is not to be redeemed by anybody.
            if item.redeem_by_ms is not None and decision_id is not None and forced is None:
                redemption = Redemption(decision_id, decision.campaign or "", item.id, item.discount, item.redeem_by_ms)
                told["token"] = redemption_token(redemption, self.redemption_key)

    # -- signals ---------------------------------------------------------------------------------------

    def hear(self, signal: Signal) -> Signal:
        """An offer seen or redeemed: its budget is spent for good. A token says whose redemption it is."""
        fields = signal.fields
        if "token" in fields:
            found = read_redemption(fields["token"], self.redemption_key)
            fields = {name: value for name, value in fields.items() if name != "token"}
            if found is not None and signal.t_ms <= found.expires_ms:
                fields |= {"decision_id": found.decision_id, "offer_id": found.offer}
            signal = Signal(signal.kind, signal.t_ms, signal.message, fields)
        decision_id, offer = fields.get("decision_id"), fields.get("offer_id")
        if decision_id is not None and offer is not None and self.leases.n_pending:
            unit = self.leases.unit_of(decision_id, offer)
            wanted = "offer_redeemed" if unit in (REDEMPTIONS, COST) else "offer_viewed"
            if unit is not None and signal.kind in (wanted, "offer_redeemed"):
                self.leases.seen(decision_id, offer)
        return signal

    def give_back(self, partition: Partition, stub: Stub, now_ms: int, decision_id: str) -> list[Charge]:
        """What a superseded decision had taken of budgets; returns what comes back, for the record."""
        charges: list[Charge] = stub.charges
        return self.leases.give_back(partition.index, charges, now_ms, decision_id) if charges else []


def budgets_of(world: World) -> dict[str, CompiledBudget]:
    """Every budget of the book in force, and those that only a book on trial has."""
    tried = world.side.book.needs.by_offer if world.side is not None else {}
    return {**tried, **world.book.needs.by_offer}


def _check_forced(book: CompiledBook, placement: str, asked: dict[str, Any]) -> None:
    listed = book.staged_by_placement.get(placement, ())
    offers = sorted({name for campaign in listed for name in campaign.offer_by_name})
    segments = sorted({segment.name for campaign in listed for segment in campaign.segments})
    wanted = asked.get("offer")
    if wanted is not None and wanted not in offers:
        known = ", ".join(offers) or "none"
        raise InvalidInput("bad_qa", f"qa.offer: found {wanted!r}, expected an offer of this placement: {known}")
    for name in asked.get("segments") or ():
        if name not in segments:
            known = ", ".join(segments) or "none"
            raise InvalidInput("bad_qa", f"qa.segments: found {name!r}, expected segments of this placement: {known}")


def _look_up(supply: Supply, catalogue: Catalogue, book: CompiledBook, track: Track, now_ms: int) -> None:
    """The products that concern this visitor: in view, in the cart (the dearest line), and those the book names."""
    products, share = supply.products, book.needs.margin_share
    if track.in_view and now_ms - track.in_view[0] <= VIEW_MS:
        _put(products, IN_VIEW, catalogue.get(track.in_view[2]))
    cart, _ = cart_of(track)
    if cart:
        lines = [(quantity * price, name, quantity, price) for name, (quantity, price) in cart.items()]
        _put(products, IN_CART, catalogue.get(max(lines)[1]))
        known = [(catalogue.get(name), quantity, price) for _, name, quantity, price in lines]
        if any(product is not None for product, _, _ in known):
            supply.margin = round(sum(q * _margin(p, price, share) for p, q, price in known), 2)
    elif IN_VIEW in products:
        supply.margin = products[IN_VIEW].margin_or(share)
    for name in book.needs.products:
        _put(products, name, catalogue.get(name))


def _margin(product: Product | None, price: float, share: float) -> float:
    found = product.margin_or(share) if product is not None else None
    return share * price if found is None else found


def _put(products: dict[str, Product], name: str, product: Product | None) -> None:
    if product is not None:
        products[name] = product

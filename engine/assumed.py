"""Budgets where nobody was asked for them: in a dry run and in a walk they are taken to be whole."""

from __future__ import annotations

from dataclasses import replace

from engine.compiled import CompiledBook
from engine.inputs import Inputs
from engine.supply import Supply


def assumed(inputs: Inputs, book: CompiledBook) -> Inputs:
    """The inputs with whole budgets for offers whose budgets were not looked up then, since they had none."""
    budgets = book.needs.budgets.get(inputs.request.placement)
    if not budgets:
        return inputs
    supply = inputs.supply or Supply()
    whole = {budget.key: budget.max for budget in budgets}
    return replace(inputs, supply=replace(supply, budgets={**whole, **supply.budgets}))

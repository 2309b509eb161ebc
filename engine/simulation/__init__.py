"""A seeded world of shoppers with a hidden, documented truth, to run, test and measure an engine in."""

from engine.simulation.shopper import Shopper, State
from engine.simulation.steps import Ask, Send, Shown, Step
from engine.simulation.truth import Truth
from engine.simulation.world import Life, World

__all__ = ["Ask", "Life", "Send", "Shopper", "Shown", "State", "Step", "Truth", "World"]

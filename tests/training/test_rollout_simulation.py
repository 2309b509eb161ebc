"""The simulation agrees with the state machine step by step, and shows what the rule promises."""

from collections import Counter

import numpy as np
import pytest

from training import rollout_simulation
from training.evidence import ratio_log_e
from training.rollout import LIVE, Phase, Rollout, look, start
from training.rollout_evidence import USERS, WIDTH, read
from training.rollout_plan import Plan, Stage
from training.rollout_simulation import BAD, EQUAL, Candidate, Shop, gate, screened, simulate

SHOP = Shop(users_per_day=86_400, conversion=0.2)
PLAN = Plan(
    stages=(Stage(0.0, 300, 4000, 500), Stage(0.05, 300, 2000, 300), Stage(0.25, 500, 2000), Stage(0.5, 500, 9000)),
    quality_margin=0.03,
)


def step_by_step(candidate: Candidate, seed: int) -> tuple[Phase, str, int, int]:
    """The same users through the state machine, one look a user, in the order in which the simulation draws them."""
    dice, world = np.random.default_rng(seed), rollout_simulation._World(candidate, SHOP)
    rollout, _ = start(Rollout("r1", "model", "m2", PLAN, 0), "m1", 0)
    totals = np.zeros((len(PLAN.stages), WIDTH))
    n = 0
    while True:
        stage, at = rollout.at, rollout.at.text
        n_stage = round(stage.horizon_s)
        drawn = np.concatenate([
            world.draw(min(rollout_simulation.CHUNK, n_stage - i), stage.share, dice)
            for i in range(0, n_stage, rollout_simulation.CHUNK)
        ])  # fmt: skip
        for row in drawn:
            n += 1
            totals[rollout.stage] += row
            parts = [(s.share, totals[i]) for i, s in enumerate(PLAN.stages[: rollout.stage + 1])]
            stepped = look(rollout, read(parts, PLAN), n * 1000, {})
            if stepped is not None:
                break
        assert stepped is not None
        rollout = stepped[0]
        if rollout.phase not in LIVE:
            return rollout.phase, at, n, int(totals[:, USERS + 1].sum())


HALF = Candidate("half the conversion", conversion=0.5)
BETTER, SLOW = Candidate("better", noise=0.1, conversion=1.3), Candidate("slow", slower=2.0)


@pytest.mark.parametrize("candidate", [BETTER, BAD[2], SLOW, HALF], ids=lambda c: c.name)
def test_the_simulation_ends_where_the_state_machine_ends(candidate):
    ended = simulate(candidate, SHOP, PLAN, 2)
    assert (ended.phase, ended.stage, ended.users, ended.exposed) == step_by_step(candidate, 2)


def test_the_screen_never_changes_what_reaches_the_limit():
    dice = np.random.default_rng(3)
    n = np.floor(dice.uniform(0, 5000, 400))
    for side in ("below", "above", "different"):
        k = np.clip(dice.binomial(n.astype(int), 0.25) + dice.integers(-60, 60, 400), 0, n).astype(float)
        exact = ratio_log_e(k, n, 0.25, 0.9, side)
        quick = screened(k, n, 0.25, 0.9, side, 4.9)
        assert ((quick >= 4.9) == (exact >= 4.9)).all()
        assert (quick >= exact - 1e-9).all()
        assert (exact >= 4.9).any()


def test_equal_models_looked_at_after_every_user_are_hardly_ever_rolled_back():
    ended = [simulate(EQUAL, SHOP, PLAN, seed) for seed in range(200)]
    assert sum(one.phase is Phase.ROLLED_BACK for one in ended) <= 4
    assert sum(one.phase is Phase.PROMOTED for one in ended) >= 60


def test_bad_candidates_end_in_the_gates_the_shadow_or_an_early_canary():
    for candidate in BAD:
        ended = Counter(simulate(candidate, SHOP, PLAN, seed).phase for seed in range(20))
        assert ended[Phase.PROMOTED] == 0, candidate.name
    for name in ("NaN scores", "inverted"):
        bad = next(one for one in BAD if one.name == name)
        assert gate(bad, SHOP, 1) is not None
        assert all(simulate(bad, SHOP, PLAN, seed).exposed == 0 for seed in range(20)), "also without the gates"

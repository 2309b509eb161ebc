"""Many simulated rollouts of one candidate as one row: how often each end, where, how many exposed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from training.rollout import Phase
from training.rollout_plan import Plan
from training.rollout_simulation import Candidate, Shop, simulate


def summary(candidate: Candidate, shop: Shop, plan: Plan, n: int, seed: int = 0) -> dict[str, Any]:
    """Shares of the ends of `n` rollouts; medians of users, exposed users and days; where and why most ended."""
    ended = [simulate(candidate, shop, plan, seed + i) for i in range(n)]
    phases = Counter(one.phase for one in ended)
    where = Counter((one.stage, one.why) for one in ended).most_common(1)[0][0]
    return {
        "candidate": candidate.name, "rollouts": n,
        **{str(phase): phases[phase] / n for phase in (Phase.PROMOTED, Phase.ROLLED_BACK, Phase.KEPT_CHAMPION)},
        "users": float(np.median([one.users for one in ended])),
        "exposed": float(np.median([one.exposed for one in ended])),
        "exposed_p95": float(np.quantile([one.exposed for one in ended], 0.95)),
        "days": float(np.median([one.days for one in ended])), "where": f"{where[0]} {where[1]}".strip(),
    }  # fmt: skip

"""How many simulated rewards are checked by a real run of the tests, and when to check more of them.

Two one-sided cumulative sums (CUSUM) watch the audited residuals `outcome - probability`. A calibrated scorer has residuals of
mean 0 and the sums stay near 0; one that promises `bias` too much adds about `bias - slack` per audit, so that it is noticed
after about `threshold / (bias - slack)` audits. An alarm multiplies the audited share by `growth` and starts the sums anew; a
quiet stretch of `patience` audits divides it again, down to the base share.
"""

import hashlib
import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class AuditRule:
    """`base_share` and `max_share` bound the share of audited patches; the other fields are those of the module's docstring."""

    base_share: float = 0.1
    max_share: float = 1.0
    slack: float = 0.1
    threshold: float = 4.0
    growth: float = 2.0
    patience: int = 100

    def audits_until_noticed(self, bias: float) -> int:
        """How many audits a constant bias takes to be noticed, on average; raises ValueError for one within the slack.

        >>> AuditRule().audits_until_noticed(0.3)
        20
        """
        if abs(bias) <= self.slack:
            raise ValueError(f"a bias of {bias:g} is within the slack of {self.slack:g} and is never noticed")
        return math.ceil(round(self.threshold / (abs(bias) - self.slack), 9))


@dataclass(frozen=True)
class AuditState:
    """Where the watch stands. `too_low` and `too_high` are the sums against a scorer that promises too little or too much."""

    share: float
    num_audited: int = 0
    num_alarms: int = 0
    too_low: float = 0.0
    too_high: float = 0.0
    quiet: int = 0
    total_residual: float = 0.0

    @property
    def mean_residual(self) -> float:
        """Mean of outcome minus probability over all audits; 0.0 without any."""
        return self.total_residual / self.num_audited if self.num_audited else 0.0


def after_audit(state: AuditState, probability: float, resolved: bool, rule: AuditRule) -> AuditState:
    """The state after one audited patch.

    >>> state = after_audit(AuditState(0.1), 0.9, False, AuditRule(threshold=0.5))
    >>> state.share, state.num_alarms, state.too_high
    (0.2, 1, 0.0)
    """
    residual = float(resolved) - probability
    too_low = max(0.0, state.too_low + residual - rule.slack)
    too_high = max(0.0, state.too_high - residual - rule.slack)
    seen = replace(
        state,
        num_audited=state.num_audited + 1,
        total_residual=state.total_residual + residual,
        too_low=too_low,
        too_high=too_high,
    )
    if max(too_low, too_high) > rule.threshold:
        share = min(rule.max_share, state.share * rule.growth)
        return replace(seen, share=share, num_alarms=state.num_alarms + 1, too_low=0.0, too_high=0.0, quiet=0)
    if state.quiet + 1 >= rule.patience:
        return replace(seen, share=max(rule.base_share, state.share / rule.growth), quiet=0)
    return replace(seen, quiet=state.quiet + 1)


def is_audited(share: float, seed: int, *words: str) -> bool:
    """Whether this patch is checked: the same answer everywhere, true for `share` of all; a larger share contains a smaller one.

    >>> is_audited(1.0, 0, "a"), is_audited(0.0, 0, "a")
    (True, False)
    """
    digest = hashlib.sha256("\0".join((str(seed), *words)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share

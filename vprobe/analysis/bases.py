"""What an arm is compared with."""

from __future__ import annotations

from collections.abc import Sequence

from vprobe.errors import UsageError
from vprobe.measure.plan import BASE, CONTROL
from vprobe.model import Arm, Run

BASELINE = "baseline"
"""The base of a comparison with a stored run: the same arm over there."""


def is_control(arm: Arm) -> bool:
    """Whether an arm is bare's twin, which is there to show the noise and is no subject of its own."""
    return arm.environment == CONTROL


def default_base(run: Run) -> str:
    """The first variant, where a run has variants: they are what it was made to compare. Otherwise bare."""
    return next((arm.variant for arm in run.arms if arm.variant is not None), BASE)


def base_arm(run: Run, arm: Arm, base: str) -> Arm | None:
    """The arm that `arm` is compared with; None where there is none, or where it is that arm itself.

    `base` names an arm; or an environment, of which the arm of the same variant is meant; or a variant, of which the arm of
    the same environment is meant.
    """
    found = next((other for other in run.arms if other.name == base), None)
    if found is None and any(other.environment == base for other in run.arms):
        alike = (other for other in run.arms if other.environment == base and other.variant == arm.variant)
        found = next(alike, None)
    elif found is None:
        alike = (other for other in run.arms if other.variant == base and other.environment == arm.environment)
        found = next(alike, None)
    return None if found == arm else found


def check_base(arms: Sequence[Arm], base: str) -> None:
    """UsageError where a run of these arms has no arm, environment or variant of that name."""
    environments = [arm.environment for arm in arms]
    variants = [arm.variant for arm in arms if arm.variant is not None]
    names = list(dict.fromkeys([*environments, *variants, *(arm.name for arm in arms)]))
    if base not in names:
        raise UsageError(f"the run has no arm, environment or variant {base!r}", f"it has {', '.join(names)}")

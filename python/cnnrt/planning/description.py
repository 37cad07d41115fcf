"""The text of a plan that people read."""

from __future__ import annotations

from .batch import AnyPlan
from .plan import REFERENCE

WORTH_A_WARNING_NS, WORTH_A_WARNING = 5e6, 0.3
"""Estimated nanoseconds, and the share of a run, from which missing kernels are worth a warning."""
NAMED = 5
"""Operators that the text of missing kernels names."""


def missing_kernels(plan: AnyPlan, *, serious: bool = False) -> str | None:
    """Text that names the steps without a kernel, and their estimated share of a run's time.

    Args:
        plan: of a network.
        serious: says nothing unless they are worth a warning.
    """
    steps = plan.describe()
    missing = [step for step in steps if step.kernel == REFERENCE]
    taken, total = (sum(s.cost_ns for s in some) for some in (missing, steps))
    if not missing or (serious and not taken > max(WORTH_A_WARNING_NS, WORTH_A_WARNING * total)):
        return None
    names = [f"{s.node} ({s.note.split(maxsplit=1)[0]})" for s in missing[:NAMED]]
    rest = f" and {len(missing) - NAMED} more" * (len(missing) > NAMED)
    have = "1 step has" if len(missing) == 1 else f"{len(missing)} steps have"
    share = f"about {taken / total:.0%} of the time"
    return f"{have} no kernel, {share}: {', '.join(names)}{rest}"


def describe(plan: AnyPlan) -> str:
    """One line for each step: node, kernel, predicted time, chosen algorithm and the reason."""
    rows = [("node", "kernel", "us", "how")]
    rows += [(s.node, s.kernel, f"{s.cost_ns / 1e3:.1f}", s.note) for s in plan.describe()]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [
        f"{r[0]:<{widths[0]}}  {r[1]:<{widths[1]}}  {r[2]:>{widths[2]}}  {r[3]}".rstrip()
        for r in rows
    ]
    missing = missing_kernels(plan)
    if missing:
        lines.append(missing)
    if plan.images > 1:
        rest = f", and from {plan.cut!r} on all at once" if plan.cut else ""
        lines.append(f"{plan.images} images, one by one{rest}")
    elif plan.dependence:
        lines.append(f"all images at once: {plan.dependence}")
    return "\n".join(lines)

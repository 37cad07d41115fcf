"""The text of a plan that people read."""

from __future__ import annotations

from .batch import AnyPlan


def describe(plan: AnyPlan) -> str:
    """One line for each step: node, kernel, predicted time, chosen algorithm and the reason."""
    rows = [("node", "kernel", "us", "how")]
    rows += [(s.node, s.kernel, f"{s.cost_ns / 1e3:.1f}", s.note) for s in plan.describe()]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [
        f"{r[0]:<{widths[0]}}  {r[1]:<{widths[1]}}  {r[2]:>{widths[2]}}  {r[3]}".rstrip()
        for r in rows
    ]
    if plan.images > 1:
        rest = f", and from {plan.cut!r} on all at once" if plan.cut else ""
        lines.append(f"{plan.images} images, one by one{rest}")
    elif plan.dependence:
        lines.append(f"all images at once: {plan.dependence}")
    return "\n".join(lines)

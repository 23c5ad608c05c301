"""The page of all rules, made from their records: ``python -m levelhead.doctor.rules.page > docs/doctor/rules.md``."""

from __future__ import annotations

from levelhead.doctor.rules import RULES, Rule
from levelhead.doctor.rules.rule import GAIN, GROUPS, LARGE_GAIN

HEAD = f"""# The doctor's rules

A finding names a **cause**: a fault that a person can mend. What only follows from it is listed with it as what it explains. A rule either sees the fault itself (a broadcast loss, a NaN), or suspects a cause and has its repair tried on a copy that is trained as long as the program: it becomes a finding only if that pays.

*Gain* is (score with the repair - score as it is) / (score with the repair - score of the best constant answer): 0 is nothing, 1 is all of it. It does not change with the scale of loss or score. A gain must also exceed twice the standard error of the score, and one below 0.3 must be there again with other batches. Severity: `critical` from a gain of one half, or where training is broken; `warning` below; `info` is style.

A watch (`lh.watch`) judges by the same rules and tries nothing: what only a trial could prove is a warning where the loss is lost or does not fall or units are stuck, and a remark elsewhere.

The least gains of {100 * GAIN:.0f} % and {100 * LARGE_GAIN:.0f} % are ours: the first is what separates the faults that were collected (each costs at least 0.1 in score) from the noise between seeds; the second is asked where nothing but the outcome speaks for the cause, since nearly every program gains a little by longer training or another rate.

This page is made from the rules themselves by `python -m levelhead.doctor.rules.page`.
"""  # noqa: E501


def page() -> str:
    """The page as Markdown, by code."""
    parts = [HEAD]
    for group in GROUPS:
        parts.append(f"## {group.capitalize()}\n")
        parts += [_rule(rule) for rule in sorted(RULES.values(), key=lambda r: r.code) if rule.group == group]
    return "\n".join(parts)


def _rule(rule: Rule) -> str:
    lines = [f'<a id="{rule.code.lower()}"></a>', f"### {rule.code} {rule.cause}", ""]
    lines += [f"{rule.meaning[0].upper()}{rule.meaning[1:]}. {rule.why}", "", f"- **Threshold:** {rule.limit}."]
    if rule.explains:
        lines.append(f"- **Explains:** {', '.join(sorted(rule.explains))}.")
    lines.append(f"- **Remedy:** {rule.remedy}.")
    if rule.example:
        lines += ["", "```python", rule.example, "```"]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(page(), end="")

"""The rules as records: one for each cause, and the page, thresholds and choices made from them."""

import re
from pathlib import Path

import pytest

from levelhead.doctor.rules import RULES, chosen
from levelhead.doctor.rules.page import page


def test_the_page_is_that_of_the_rules():
    file = Path(__file__).parents[2] / "docs/doctor/rules.md"
    assert file.read_text(encoding="utf-8") == page(), "python -m levelhead.doctor.rules.page > docs/doctor/rules.md"


def test_a_rule_is_whole():
    assert len({rule.code for rule in RULES.values()}) == len(RULES)
    for cause, rule in RULES.items():
        assert rule.cause == cause
        assert re.fullmatch(r"LH[1-7]\d\d", rule.code)
        assert rule.checks
        assert all((rule.meaning, rule.why, rule.threshold, rule.remedy, rule.example))
        assert not rule.meaning.endswith(".")
        assert set(rule.explains) <= set(RULES) - {cause}


def test_no_check_has_two_rules():
    checks = [check for rule in RULES.values() for check in rule.checks]
    assert len(checks) == len(set(map(id, checks)))


def test_rules_are_chosen_by_code_by_its_beginning_and_by_cause():
    wanted = chosen(["LH3", "no-shuffle"], ["lh304"])
    assert [cause for cause in RULES if wanted(cause)] == [
        cause
        for cause, rule in RULES.items()
        if cause == "no-shuffle" or (rule.code.startswith("LH3") and rule.code != "LH304")
    ]
    with pytest.raises(ValueError, match="no rule 'LH9'"):
        chosen([], ["LH9"])


def test_a_threshold_holds_the_constant_of_its_check():
    from levelhead.doctor.rules import data, normalization

    assert f"above {data.LARGE:g} or below {data.SMALL:g}" in RULES["inputs-not-normalized"].threshold
    assert f"fewer than {normalization.FEW} values" in RULES["batch-too-small"].threshold


def test_no_file_of_the_doctor_imports_itself_in_a_circle():
    graph = pytest.importorskip("grimp").build_graph("levelhead", include_external_packages=False)
    names = [name for name in graph.modules if name.startswith("levelhead.doctor.")]
    leads = {name: {m for m in graph.find_modules_directly_imported_by(name) if m in names} for name in names}
    while leads:
        free = [name for name, imported in leads.items() if not imported & set(leads)]
        assert free, sorted(leads)
        for name in free:
            del leads[name]

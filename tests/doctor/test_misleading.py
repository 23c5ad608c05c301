"""Programs on which a score lies, a loss is lost without a trace, or nothing is learnt without an error."""

import misleading_programs as programs
import pytest
import torch

import levelhead as lh


@pytest.fixture(autouse=True)
def _same_weights():
    torch.manual_seed(0)


@pytest.mark.parametrize("case", programs.FAULTY, ids=lambda case: case.__name__)
def test_the_cause_is_found_and_its_place(case):
    found = lh.examine(case(), budget=60.0)
    assert not found.healthy
    assert (found.findings[0].cause, found.findings[0].where) == programs.FAULTY[case], str(found)


@pytest.mark.parametrize("case", programs.HEALTHY, ids=lambda case: case.__name__)
def test_a_healthy_program_is_left_in_peace(case):
    found = lh.examine(case(), budget=60.0)
    assert [f.cause for f in found.findings if f.severity != "info"] == [], str(found)


def test_a_treatment_is_judged_by_the_users_own_measure():
    """A swap of the loss would win by the error of raw outputs, and lose every mask."""
    found = lh.examine(programs.masks_squashed_twice(), budget=60.0)
    assert found.metric == "minus the program's own loss on validation data"
    assert f"score: {found.metric}" in str(found)
    treated = found.treat(budget=60.0)
    assert treated.accepted
    assert programs.overlap(treated.program.model, *programs.disks(100, 1)) > 0.8


def test_what_was_tried_is_told_where_nothing_is_learnt():
    found = lh.examine(programs.labels_permuted_before_the_split(), budget=60.0)
    finding = found.findings[0]
    assert "does not learn" in finding.summary
    assert len(finding.evidence["tried"]) == len(found.trials) - 1 > 0


def test_a_critic_that_is_frozen_in_the_makers_turn_is_trained():
    found = lh.examine(programs.two_networks_in_a_game(), budget=5.0)
    said = [(f.cause, f.where) for f in found.findings] + [(t.cause, "") for t in found.trials]
    assert not {"loss-detached", "parameters-not-trained"} & {cause for cause, _ in said}, str(found)

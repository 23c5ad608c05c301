"""Studies of claims that take no time, as modules that a registry could name."""

import sys
from types import SimpleNamespace

from levelhead.studies import drawing, observers
from levelhead.studies.claims import Claim
from levelhead.studies.frame import Arm, Lecture
from levelhead.studies.views import Rows


def raises(model, recipe, data, step):
    raise RuntimeError("no such layer")


def toy(name, **changes):
    fields = {
        "name": name,
        "QUESTION": f"Is {name} so?",
        "setting": "A toy.",
        "arms": {"plain": Arm(), "BN": Arm({"normalization": "batch"})},
        "claims": (
            Claim(text=f"{name} is so.", source="here", effect="best accuracy", measure=lambda s, i: s.best("BN", i)),
        ),
        "draw": lambda samples: [drawing.curves(samples, samples.arms, "validation_score", "Training", "accuracy, %")],
        "recipe": {"depth": 1, "width": 4, "batch_size": 10, "steps": 4, "evaluate_every": 2},
        "DATA": "digits",
    }
    return Lecture(**fields | changes)


STUDIES = {
    "first": toy("first", view=Rows(40)),
    "second": toy("second", DATA="wine", observe=observers.flow),
    "broken": toy("broken", observe=raises),
}


def register(monkeypatch):
    """Let the registry know these studies and no others."""
    from levelhead.studies import registry, together

    names = {}
    for name, study in STUDIES.items():
        module = f"lecture_fakes_{name}"
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(STUDY=study))
        names[name] = module
    monkeypatch.setattr(registry, "STUDIES", names)
    monkeypatch.setattr(together, "LECTURES", names)

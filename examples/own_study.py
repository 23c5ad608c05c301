"""A question of your own: does layer norm train this network in fewer steps than none?

Run: python examples/own_study.py    (about 15 seconds; stopped, it goes on where it was)
"""

from pathlib import Path

import levelhead as lh
from levelhead.training import Recipe

FOLDER = Path("reports/layer-norm-digits")

if __name__ == "__main__":  # the runs are made by processes that import this file
    plain = Recipe(network="mlp", depth=6, initialization="he", learning_rate=0.1, steps=300, evaluate_every=20)
    arms = {"plain": plain, "layer norm": plain.replace(normalization="layer")}
    study = lh.Study("Does layer norm help a deep network on small images?", "digits", arms, seeds=3)
    print(study.run(FOLDER))
    print("Report:", FOLDER / "report.html")

#!/usr/bin/env bash
# Group lasso: one loss, one strength and one group of 4 give four penalties. With X'X/n = I the solution shrinks the norm of the
# group, 4, by strength * m. m is 1 in skglm 0.5 and celer 0.7.4, sqrt(4) in adelie 1.1.52 and in group-lasso 1.5.0 without its
# scaling, and 4 in group-lasso by default: a strength cannot be carried from one to another.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==1.26.4 scikit-learn==1.9.1 skglm==0.5 celer==0.7.4 adelie==1.1.52 group-lasso==1.5.0
cat >"$folder/program.py" <<'PROGRAM'
from importlib.metadata import version

import adelie
import numpy as np
from celer import GroupLasso as Celer
from group_lasso import GroupLasso
from skglm import GroupLasso as Skglm

rng, n, strength = np.random.default_rng(0), 200, 0.5
x = np.linalg.qr(rng.normal(size=(n, 8)))[0] * np.sqrt(n)
y = x @ np.array([2.0, 2, 2, 2, 0, 0, 0, 0])
print(*(f"{name} {version(name)}" for name in ("skglm", "celer", "adelie", "group-lasso")))


def tell(name, weights):
    print(f"{name}: the norm of the group shrinks by strength * {(4 - np.linalg.norm(weights)) / strength:.2f}")


tell("skglm", Skglm(groups=4, alpha=strength, fit_intercept=False, tol=1e-10).fit(x, y).coef_)
tell("celer", Celer(groups=4, alpha=strength, fit_intercept=False, tol=1e-10).fit(x, y).coef_)
options = {"groups": np.array([0, 4]), "lmda_path": [strength], "intercept": False, "progress_bar": False, "tol": 1e-12}
glm = adelie.glm.gaussian(y=y)
tell("adelie", adelie.grpnet(X=np.asfortranarray(x), glm=glm, early_exit=False, **options).betas.toarray())
groups = {"groups": [0] * 4 + [1] * 4, "group_reg": strength, "l1_reg": 0, "fit_intercept": False}
groups |= {"supress_warning": True, "n_iter": 5000, "tol": 1e-12}
tell("group-lasso, scale_reg='none'", GroupLasso(scale_reg="none", **groups).fit(x, y).coef_)
tell("group-lasso, default", GroupLasso(**groups).fit(x, y).coef_)
PROGRAM
cat >"$folder/seen" <<'SEEN'
skglm 0.5 celer 0.7.4 adelie 1.1.52 group-lasso 1.5.0
skglm: the norm of the group shrinks by strength * 1.00
celer: the norm of the group shrinks by strength * 1.00
adelie: the norm of the group shrinks by strength * 2.00
group-lasso, scale_reg='none': the norm of the group shrinks by strength * 2.00
group-lasso, default: the norm of the group shrinks by strength * 4.00
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"

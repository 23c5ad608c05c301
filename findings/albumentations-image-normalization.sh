#!/usr/bin/env bash
# albumentations 2.0.8: of a float image, `Normalize(normalization="image")` divides by the deviation + 1e-4, and "image_per_channel"
# by the bare deviation where there are three channels. One image of deviation 1e-4 comes out at 0.5 or at 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check albumentations==2.0.8 albucore==0.0.24 opencv-python-headless==5.0.0.93 numpy==2.4.6
cat >"$folder/program.py" <<'PROGRAM'
from importlib.metadata import version

import albumentations
import numpy as np

print("albumentations", version("albumentations"))
half = np.repeat(np.float32([[-1], [1]]), 8, 0)[:, :, None].repeat(8, 1)
for channels in (3, 1):
    for deviation in (1e-1, 1e-4):
        image = np.repeat(half * np.float32(deviation), channels, 2)
        for name in ("image", "image_per_channel"):
            y = albumentations.Normalize(normalization=name)(image=image)["image"]
            print(f"{channels} channels, deviation {deviation:g}, {name}: {y.std():.2f}")
PROGRAM
cat >"$folder/seen" <<'SEEN'
albumentations 2.0.8
3 channels, deviation 0.1, image: 1.00
3 channels, deviation 0.1, image_per_channel: 1.00
3 channels, deviation 0.0001, image: 0.50
3 channels, deviation 0.0001, image_per_channel: 1.00
1 channels, deviation 0.1, image: 1.00
1 channels, deviation 0.1, image_per_channel: 1.00
1 channels, deviation 0.0001, image: 0.50
1 channels, deviation 0.0001, image_per_channel: 0.50
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"

"""Writes significance.json: scipy's paired tests on numbers like per-user gains.

    python3 -m venv v && v/bin/pip install scipy && v/bin/python tests/golden/significance.py
"""

import json
import pathlib

import numpy as np
from scipy import stats

rng = np.random.default_rng(7)
cases = []
for n, shift in ((12, 0.1), (200, 0.0), (1500, 0.02)):
    a = np.where(rng.random(n) < 0.3, 1 / np.log2(rng.integers(1, 11, n) + 1), 0.0)
    b = np.where(rng.random(n) < 0.3 + shift, 1 / np.log2(rng.integers(1, 11, n) + 1), 0.0)
    cases.append({
        "this": [round(float(v), 9) for v in b], "reference": [round(float(v), 9) for v in a],
    })
    x, y = np.array(cases[-1]["this"]), np.array(cases[-1]["reference"])
    cases[-1]["t"] = float(stats.ttest_rel(x, y).pvalue)
    # Differences are rounded, as equal ones have to tie.
    d = x - y
    cases[-1]["wilcoxon"] = float(stats.wilcoxon(d, method="approx").pvalue)
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(cases) + "\n")

"""Scores that others published, in percent, to stand beside ours."""

SUPPLEMENT = "DualRel, CVPR 2023, supplementary material, Tables 6 and 7 (JAC and DSC; which average is not said)"
RANKMATCH = "RankMatch, CVPR 2024, Table 9 (metric not named, probably JAC; 5, 10 and 20 of 165 slices)"

_SHARES = ("1/32", "1/16", "1/8", "1/2")  # 12, 25, 50 and 200 of 400 slices

# (training data, test data) -> method -> (JAC, DSC) of each share in turn.
_CROSS_DOMAIN = {
    ("mitoem_r", "lucchi"): {
        "mean_teacher": ((41.37, 57.21), (42.84, 58.66), (49.44, 65.35), (58.25, 71.87)),
        "cct": ((43.81, 60.01), (45.54, 62.40), (51.72, 67.95), (64.97, 78.12)),
        "gct": ((46.53, 62.62), (48.41, 65.52), (54.97, 71.31), (68.04, 81.92)),
        "cps": ((49.62, 64.89), (51.59, 67.48), (59.52, 73.78), (73.32, 84.40)),
        "dualrel_paper": ((56.62, 70.59), (58.87, 73.41), (67.91, 80.26), (79.37, 88.29)),
    },
    ("mitoem_r", "lucchi_pp"): {
        "mean_teacher": ((38.44, 53.15), (39.98, 54.46), (46.91, 60.72), (55.16, 66.78)),
        "cct": ((40.00, 54.84), (42.82, 56.97), (48.31, 62.04), (61.22, 71.92)),
        "gct": ((43.85, 59.01), (45.83, 61.84), (51.25, 67.49), (65.77, 77.20)),
        "cps": ((46.38, 61.84), (47.32, 63.88), (56.47, 71.53), (67.05, 80.07)),
        "dualrel_paper": ((53.92, 68.11), (55.01, 70.36), (65.64, 78.78), (72.93, 84.16)),
    },
    ("mitoem_h", "lucchi"): {
        "mean_teacher": ((29.94, 46.30), (30.52, 46.99), (33.44, 49.73), (43.59, 60.32)),
        "cct": ((32.39, 48.72), (33.10, 49.51), (36.12, 52.32), (45.60, 62.16)),
        "gct": ((42.08, 58.62), (43.14, 59.57), (47.07, 62.94), (55.10, 66.57)),
        "cps": ((44.87, 60.74), (46.00, 61.73), (50.20, 65.23), (58.75, 72.62)),
        "dualrel_paper": ((51.27, 67.43), (52.57, 68.53), (57.36, 72.41), (62.13, 76.36)),
    },
    ("mitoem_h", "lucchi_pp"): {
        "mean_teacher": ((35.85, 52.92), (37.52, 53.46), (38.34, 54.67), (48.87, 65.13)),
        "cct": ((35.30, 52.96), (36.95, 53.84), (37.75, 54.71), (49.10, 65.48)),
        "gct": ((43.97, 60.45), (45.18, 61.55), (45.97, 62.39), (49.91, 65.78)),
        "cps": ((48.65, 65.66), (50.44, 66.59), (52.14, 67.12), (59.49, 72.18)),
        "dualrel_paper": ((55.93, 71.33), (57.48, 72.63), (58.26, 73.15), (63.74, 77.56)),
    },
}
_LUCCHI = {  # JAC of 1/32, 1/16 and 1/8
    "supervised": (45.7, 57.4, 61.8),
    "mean_teacher": (71.8, 72.4, 75.4),
    "cps": (84.5, 84.6, 85.8),
    "dualrel_paper": (85.6, 86.3, 87.2),
    "rankmatch": (86.9, 87.5, 88.1),
}


def published(data: str, target: str, row: str, labelled: str) -> tuple[float, float | None] | None:
    """(JAC, DSC) in percent of a method trained on a share of `data` and tested on `target`; None if not published."""
    if labelled not in _SHARES:
        return None
    share = _SHARES.index(labelled)
    if (data, target) == ("lucchi", "lucchi"):
        scores = _LUCCHI.get(row, ())
        return (scores[share], None) if share < len(scores) else None
    scores = _CROSS_DOMAIN.get((data, target), {}).get(row)
    return scores[share] if scores else None


def source(data: str, target: str) -> str | None:
    """Where the numbers of `published` come from; None if there are none."""
    if (data, target) == ("lucchi", "lucchi"):
        return RANKMATCH
    return SUPPLEMENT if (data, target) in _CROSS_DOMAIN else None

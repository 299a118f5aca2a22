"""Values that every part of the package shares."""

IGNORE = 255  # decoded labels: a pixel that counts nowhere; 0 is background, 1 mitochondrion

METHOD_TITLES = {  # name of a config, configs/<name>.py -> title in tables, plots and reports
    "supervised": "Supervised",
    "mean_teacher": "MT (NeurIPS 2017)",
    "cct": "CCT (CVPR 2020)",
    "gct": "GCT (ECCV 2020)",
    "cps": "CPS (CVPR 2021)",
    "cps_cutmix": "CPS + CutMix (CVPR 2021)",
    "unimatch": "UniMatch (CVPR 2023)",
    "rankmatch": "RankMatch (CVPR 2024)",
    "dualrel_paper": "DualRel (as in the supplement)",
    "dualrel": "DualRel (this package)",
}

SECTIONS = {  # of a config beside `method` -> title on the page of all fields
    "data": "Volumes, labels and how they are read",
    "augment": "Augmentation of crops",
    "model": "The network",
    "train": "Training",
    "predict": "Prediction",
    "instances": "Instances",
    "suggest": "What to label next",
    "export": "The model for others",
    "profile": "Profiles",
}

# The scores of a validation by which a checkpoint is the best: the first that it has, the second in older ones.
BEST_BY = ("jac_calibrated", "jac_pooled")

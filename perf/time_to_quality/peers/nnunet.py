"""nnU-Net v2, 2-D: its own fingerprint, plan and preprocessing, training on all five slices, its own prediction.

The steps are given (`nnunet_trainer/steps.py`), all else is its default. Runs in nnU-Net's environment.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from command_line import parse
from PIL import Image

DATASET, PLANS = "Dataset001_Mitochondria", "nnUNetPlans"


def environment(work: Path, steps: int = 1, workers: int = 0) -> dict[str, str]:
    """`workers`: processes of augmentation; 0: in the training's own."""
    folders = {f"nnUNet_{name}": str(work / name) for name in ("raw", "preprocessed", "results")}
    own = {"nnUNet_extTrainer": str(Path(__file__).parent / "nnunet_trainer"), "nnUNet_n_proc_DA": str(workers)}
    own |= {"DUALREL_STEPS": str(steps), "DUALREL_RECORD": str(work / "train.json")}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(len(os.sched_getaffinity(0))))
    return {**os.environ, **folders, **own, **threads}


def run(program: str, *words: str, env: dict[str, str]) -> None:
    subprocess.run([str(Path(sys.executable).parent / program), *words], check=True, env=env)


def train(task: Path, work: Path, steps: int) -> None:
    dataset = work / "raw" / DATASET
    for kind, folder, end in (("images", "imagesTr", "_0000"), ("masks", "labelsTr", "")):
        (dataset / folder).mkdir(parents=True, exist_ok=True)
        for path in sorted((task / kind).glob("*.png")):
            image = np.asarray(Image.open(path))
            image = (image > 0).astype(np.uint8) if kind == "masks" else image
            Image.fromarray(image).save(dataset / folder / f"slice_{path.stem}{end}.png")
    description = {
        "channel_names": {"0": "EM"},
        "labels": {"background": 0, "mitochondrion": 1},
        "numTraining": len(list((dataset / "imagesTr").iterdir())),
        "file_ending": ".png",
    }
    (dataset / "dataset.json").write_text(json.dumps(description))
    words = ["-d", "1", "-c", "2d", "-npfp", "1", "-np", "1"]
    run("nnUNetv2_plan_and_preprocess", *words, env=environment(work, workers=1))  # which needs one to plan
    words = ["1", "2d", "all", "-tr", "nnUNetTrainerSteps", "-device", "cpu"]
    run("nnUNetv2_train", *words, env=environment(work, steps))


def predict(task: Path, work: Path, output: Path) -> None:
    images, masks = work / "scored", work / "masks"
    for folder in (images, masks):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    paths = sorted((task / "scored").glob("*.png"))
    for path in paths:
        shutil.copy(path, images / f"slice_{path.stem}_0000.png")
    words = ["-i", str(images), "-o", str(masks), "-d", "1", "-c", "2d", "-f", "all", "-tr", "nnUNetTrainerSteps"]
    words += ["-device", "cpu", "-npp", "0", "-nps", "0"]
    run("nnUNetv2_predict", *words, env=environment(work))
    np.save(output, np.stack([np.asarray(Image.open(masks / f"slice_{path.stem}.png")) for path in paths]))


def main() -> None:
    flags = parse(__doc__)
    if flags.action == "train":
        train(flags.task, flags.work, flags.steps)
    else:
        predict(flags.task, flags.work, flags.output)


if __name__ == "__main__":
    main()

"""torch-em's trainers at their defaults: UNet2d and dice loss, supervised or semi-supervised (Mean Teacher).

Patches of 256 x 256 as in its own example, 4 labelled and, as a Mean Teacher, 4 unlabelled ones a step. Validates on
the labelled slices, since all of them train; its rate falls on a plateau. Its compilation is off, which would cost more
than it gains in some minutes. Segments with `predict_with_halo` from its best checkpoint, at 0.5. Needs
torch-em, numpy and pillow.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch_em
from command_line import parse
from PIL import Image
from torch_em.data import RawImageCollectionDataset
from torch_em.model import UNet2d
from torch_em.self_training import (
    DefaultPseudoLabeler,
    DefaultSelfTrainingLoss,
    DefaultSelfTrainingLossAndMetric,
    MeanTeacherTrainer,
)
from torch_em.transform.raw import get_default_mean_teacher_augmentations, get_raw_transform, normalize
from torch_em.util.prediction import predict_with_halo

CROP, BATCH, HALO = 256, 4, 64
EPOCHS = 10  # after each it validates and, on a plateau, lowers its rate
NAME = "unet"
OPTIONS = {"mixed_precision": False, "compile_model": False}


def train(task: Path, work: Path, steps: int, mean_teacher: bool) -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    os.chdir(work)  # logs go where it runs
    network = UNet2d(in_channels=1, out_channels=1, final_activation="Sigmoid")
    epoch = BATCH * max(1, -(-steps // EPOCHS))
    training, validation = (labelled(task, mean_teacher, count) for count in (epoch, BATCH))
    start = time.process_time()
    if mean_teacher:
        trainer = semi_supervised(network, training, validation, unlabelled(task, epoch), work)
    else:
        trainer = torch_em.default_segmentation_trainer(
            NAME, network, training, validation, device="cpu", save_root=str(work), **OPTIONS
        )
    trainer.fit(iterations=steps)
    seconds = time.process_time() - start
    (work / "train.json").write_text(json.dumps({"steps": steps, "loop_cpu_seconds": seconds}))


def labelled(task: Path, mean_teacher: bool, count: int):
    """Loader of patches; the Mean Teacher's intensities are 0 to 1, as its augmentations need."""
    paths = [sorted(map(str, (task / kind).glob("*.png"))) for kind in ("images", "masks")]
    return torch_em.default_segmentation_loader(
        paths[0],
        None,
        paths[1],
        None,
        batch_size=BATCH,
        patch_shape=(CROP, CROP),
        ndim=2,
        is_seg_dataset=False,
        n_samples=count,
        label_transform=torch_em.transform.labels_to_binary,
        raw_transform=get_raw_transform(normalizer=normalize) if mean_teacher else None,
        shuffle=True,
    )


def unlabelled(task: Path, count: int):
    views = get_default_mean_teacher_augmentations(), get_default_mean_teacher_augmentations()
    paths = sorted(map(str, (task / "unlabelled").glob("*.png")))
    dataset = RawImageCollectionDataset(paths, (CROP, CROP), n_samples=count, augmentations=views)
    return torch_em.segmentation.get_data_loader(dataset, BATCH, shuffle=True)


def semi_supervised(network: UNet2d, training, validation, unsupervised, work: Path) -> MeanTeacherTrainer:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)  # as `default_segmentation_trainer` has it
    return MeanTeacherTrainer(
        name=NAME,
        model=network,
        optimizer=optimizer,
        lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=5),
        pseudo_labeler=DefaultPseudoLabeler(),
        unsupervised_loss=DefaultSelfTrainingLoss(),
        supervised_loss=DefaultSelfTrainingLoss(),
        supervised_loss_and_metric=DefaultSelfTrainingLossAndMetric(),
        supervised_train_loader=training,
        unsupervised_train_loader=unsupervised,
        supervised_val_loader=validation,
        device="cpu",
        **OPTIONS,
        save_root=str(work),
    )


def predict(task: Path, work: Path, output: Path, mean_teacher: bool) -> None:
    network = UNet2d(in_channels=1, out_channels=1, final_activation="Sigmoid")
    checkpoint = torch.load(work / "checkpoints" / NAME / "best.pt", weights_only=False)
    network.load_state_dict(checkpoint["teacher_state" if mean_teacher else "model_state"])
    network.eval()
    options = {"preprocess": normalize} if mean_teacher else {}
    masks = []
    for path in sorted((task / "scored").glob("*.png")):
        image = np.asarray(Image.open(path), np.float32)
        probability = predict_with_halo(
            image, network, ["cpu"], (CROP, CROP), (HALO, HALO), disable_tqdm=True, **options
        )
        masks.append(np.squeeze(probability) > 0.5)
    np.save(output, np.stack(masks).astype(np.uint8))


def main() -> None:
    flags = parse(__doc__, "--mean-teacher")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if flags.action == "train":
        train(flags.task, flags.work, flags.steps, flags.mean_teacher)
    else:
        predict(flags.task, flags.work, flags.output, flags.mean_teacher)


if __name__ == "__main__":
    main()

"""An nnU-Net trainer of a given number of steps: its schedule ends there, nothing else differs from the default."""

import json
import math
import os
import time
from pathlib import Path

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

# nnU-Net's programs take a thread per core of the machine; here one per core that the process may use.
torch.set_num_threads(len(os.sched_getaffinity(0)))
EPOCHS = 10  # stages of the learning rate, each followed by a validation


class nnUNetTrainerSteps(nnUNetTrainer):  # noqa: N801, a trainer's name begins so
    """DUALREL_STEPS: optimiser steps. DUALREL_RECORD: where their CPU seconds are written."""

    def __init__(self, plans: dict, configuration: str, fold, dataset_json: dict, device=torch.device("cpu")):  # noqa: B008, nnU-Net's signature
        super().__init__(plans, configuration, fold, dataset_json, device)
        steps = int(os.environ.get("DUALREL_STEPS", "1"))
        self.num_iterations_per_epoch = math.ceil(steps / EPOCHS)
        self.num_epochs = max(1, round(steps / self.num_iterations_per_epoch))
        # One validation step for five of training, as by default.
        self.num_val_iterations_per_epoch = max(1, self.num_iterations_per_epoch // 5)

    def run_training(self) -> None:
        start = time.process_time()
        super().run_training()
        steps = self.num_epochs * self.num_iterations_per_epoch
        record = {"steps": steps, "loop_cpu_seconds": time.process_time() - start}
        record |= {"patch": list(self.configuration_manager.patch_size), "batch": self.batch_size}
        Path(os.environ["DUALREL_RECORD"]).write_text(json.dumps(record))

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Left out: it segments the training slices again, after the training."""

"""DualRel. Every value here is ours: the paper's supplement gives none of them (docs/method.md)."""

from dualrel_jax.configs import base
from ml_collections import ConfigDict


def get_config(arg: str = "phantom,1/32"):
    config = base.get_config(arg)
    config.method = ConfigDict(
        {
            "name": "dualrel",
            # Module 1: reliable pixel aggregation.
            "feature_level": 1,  # decoder level the prototypes read: features at stride 2^level
            "num_prototypes": 16,  # K, the first half for mitochondria
            "num_references": 64,  # N of Eq. 5, reference points an image
            "dim": 32,  # C, channels of prototypes
            "rectification": "add",  # direct + gain * referential; or gate, referential, direct (ablation)
            "temperature": 0.1,  # tau of the activation maps
            # Module 2: reliable prototype selection.
            "consistency": "map",  # what two views must agree in: map, descriptor or both
            "reliability": "uncertainty",  # uncertainty, softmax or uniform (ablation)
            "reliability_from": "class",  # class: the pixels it owns are of its class; consistency: two views agree
            # Pixels: soft targets of the teacher on the strong view, hard labels on a CutMix view.
            "strong_scale": (0.5, 2.0),  # zoom of the strong view against the teacher's, drawn from here; (1, 1): none
            "soft_target": "head",  # head, or mean of head and fused prototypes
            "soft_trust": "uniform",  # weight of a pixel: uniform, or reliability of its prototypes
            "cross_labels": "other",  # head and prototypes learn each from the other, or each from its own (ablation)
            # Weights of the terms beside the supervised one.
            "prototype_weight": 0.5,  # segmentation by prototypes on labelled crops
            "diversity_weight": 0.1,
            "prototype_consistency_weight": 0.1,  # ramped
            "pixel_consistency_weight": 20.0,  # ramped
            "cross_pseudo_label_weight": 2.0,  # ramped
            "prediction_head": "head",  # default prediction: head, prototypes or mean
            "prediction_head_elsewhere": "prototypes",  # ... that a benchmark scores on other data sets
        }
    )
    return config

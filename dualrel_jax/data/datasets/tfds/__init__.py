"""TFDS builders of the public data sets, one a file; `prepared.py` reads what they made.

`tfds build dualrel_jax/data/datasets/tfds/lucchi --manual_dir=data`, or the same without Apache Beam:
`python -m dualrel_jax.data.datasets.tfds lucchi`. TensorFlow costs seconds to import, so nothing is imported here.
"""

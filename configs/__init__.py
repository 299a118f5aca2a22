"""Python configs; installed as `dualrel_jax.configs`, so `--config configs/dualrel.py` works from any directory."""

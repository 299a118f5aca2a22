"""Simple bodies in volumes of any voxel size."""

import numpy as np
from scipy import ndimage


def grid_nm(shape, voxel_nm):
    """z, y, x of voxel centres, in nm from the volume's corner."""
    axes = [(np.arange(n) + 0.5) * size for n, size in zip(shape, voxel_nm, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def ball(shape, voxel_nm, centre_nm, radius_nm):
    return ((grid_nm(shape, voxel_nm) - np.reshape(centre_nm, (3, 1, 1, 1))) ** 2).sum(0) < radius_nm**2


def blobs(seed, shape=(14, 24, 26)):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), (1, 2, 2))
    return field > np.quantile(field, 0.7)

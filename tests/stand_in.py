"""A stand-in for the network of a prediction: dark is mitochondrion."""

import math

import numpy as np
from scipy import ndimage


class Dark:
    """A mean over 1 x 5 pixels of how dark they are: not the same in all directions. Dies after `lives` slices."""

    in_flight = slices_at_once = 1

    def __init__(self, lives=math.inf):
        self.lives, self.calls = lives, 0

    def __call__(self, variables, images):
        self.calls += 1
        if self.calls > self.lives:
            raise KeyboardInterrupt
        return self.probability(variables, images)

    def probability(self, variables, images):
        return ndimage.uniform_filter1d(variables - images / np.float32(255), 5, axis=-1)

"""python -m dualrel_jax.data.phantom STACK.tif: writes the test volume of the phantom, to try a prediction on."""

import sys

from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.data.phantom import phantom


def main(path: str) -> None:
    """Writes the phantom's test volume as a TIFF stack: something to try `--mode=predict` on."""
    image, _ = phantom("phantom", "test")
    with open_writer(path, image.shape, image.dtype, image.voxel_nm) as writer:
        for z in range(len(image)):
            writer.write(z, image[z])


if __name__ == "__main__":
    main(sys.argv[1])

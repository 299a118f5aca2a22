"""python -m dualrel_jax.config --markdown > docs/configuration.md"""

import sys

from dualrel_jax.config.document import describe, markdown

if __name__ == "__main__":
    print(markdown() if "--markdown" in sys.argv[1:] else describe("config"), end="")

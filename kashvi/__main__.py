"""``python -m kashvi``: the same as ``kashvi``."""

import os
import sys

# Python looks in the working directory first, where a file of the user's may have the name of a package. The app is
# found there all the same: ``--app`` says so, once kashvi itself is imported.
if sys.path[:1] in ([""], [os.getcwd()]):  # noqa: PTH109
    del sys.path[0]

from .cli import main

if __name__ == "__main__":
    main()

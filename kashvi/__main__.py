"""``python -m kashvi``: the same as ``kashvi``."""

from .cli import main

if __name__ == "__main__":
    main()

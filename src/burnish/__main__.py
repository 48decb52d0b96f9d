"""``python -m burnish`` is the same as ``burnish``."""

from burnish.cli import main

main()

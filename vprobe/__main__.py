"""`python -m vprobe`."""

from vprobe.cli import main

main()

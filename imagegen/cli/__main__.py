"""`python -m imagegen.cli`."""

from imagegen.cli import main

main()

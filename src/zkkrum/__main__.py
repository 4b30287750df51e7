"""`python -m zkkrum`."""

from zkkrum.cli import main

main(prog_name="zkkrum")

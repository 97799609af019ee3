"""`python -m mmreward`: the command line, where the script `mmreward` is not on the path."""

from mmreward.cli import main

main()

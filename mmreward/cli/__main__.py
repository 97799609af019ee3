"""`python -m mmreward.cli`, as trainers' launchers start it."""

from mmreward.cli import main

main()

"""BR-RM's reward (arXiv:2510.23596), for comparison."""


def br_rm(right: bool, well_formed: bool) -> float:
    """0 for the right verdict, -1 for the wrong one, -100 for a turn without its form.

    Normalised within a group, one malformed response among eight makes all well-formed ones, right or wrong,
    nearly equal: the format is learned first, and nothing else meanwhile.
    """
    if not well_formed:
        return -100.0
    return 0.0 if right else -1.0

"""How much longer than on a machine of its own a thing may take here: a bound in seconds says nothing of the program where
others want the same processors."""

import os


def patience() -> float:
    """1 on a machine that has nothing else to do; how many want each processor on one that has."""
    return max(1.0, max(os.getloadavg()[:2]) / (os.cpu_count() or 1))

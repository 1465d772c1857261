"""What holds for all tests: several run at once, a process a core (pytest-xdist), and so each has one thread."""

import os

# Before anything imports torch. Two processes of two threads each on two cores take ten times as long.
os.environ["OMP_NUM_THREADS"] = "1"

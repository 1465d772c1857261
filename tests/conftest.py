"""What holds for all tests: several run at once, a process a core (pytest-xdist), and so each has one thread."""

import os

# Training in these processes leaves their memory as it is: some tests measure it, whatever ran before them.
os.environ.setdefault("GLIBC_TUNABLES", "")

# Before anything imports torch. Two processes of two threads each on two cores take ten times as long.
os.environ["OMP_NUM_THREADS"] = "1"

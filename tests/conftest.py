"""Settings of the whole suite."""

import os

# pytest-xdist already fills the cores; more threads in each process only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

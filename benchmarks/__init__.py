"""Benchmarks: programs that print figures. Nothing of the app, the training or the command line imports them."""

import os

# Before torch is imported: two threads on a busy machine are slower than one.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

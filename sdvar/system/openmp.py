"""How OpenMP's threads wait for each other: awake for a moment, then asleep; set before torch loads it.

By default they stay awake. On a machine that does other work too, a thread that waits awake takes the core of the one
that it waits for, and decoding takes several times as long. Without the moment, decoding on an idle machine takes a
tenth longer. Whoever sets one of the two variables decides alone.
"""

import os

if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}

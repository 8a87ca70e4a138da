"""How OpenMP's threads wait for each other: asleep, set before torch loads it.

By default they spin. On a machine that does other work too, a thread that spins takes the core of the one that it waits
for: decoding with two threads then takes five times as long. OMP_WAIT_POLICY=active asks for the old way.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

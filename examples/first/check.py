"""Use each of the built packages."""

import numpy as np
from cymem.cymem import Pool
from fastdtw import fastdtw
from murmurhash.mrmr import hash as murmurhash
from preshed.counter import PreshCounter

pool = Pool()
assert pool.size == 0

assert murmurhash("stage") == murmurhash("stage")

counter = PreshCounter()
counter.inc(murmurhash("wheel") % 1000, 2)
assert counter.total == 2

distance, path = fastdtw(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0]))
assert (distance, path[0], path[-1]) == (1.0, (0, 0), (2, 1))

print("cymem, murmurhash, preshed and fastdtw work")

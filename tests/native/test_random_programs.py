"""Programs interpreted and emitted leave the same numbers, in every vector width, on any number of threads."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from kernels import emitted
from programs import programs

from hapgop.tile import check, interpret

some = settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def interpreted(program):
    arrays = {name: values.copy() for name, values in program.arrays.items()}
    interpret(program.kernel, arrays, program.sizes)
    return arrays["y"]


@some
@given(programs())
def test_interpreted_and_emitted_agree(program):
    check(program.kernel)
    wanted = interpreted(program)
    for threads in (1, 2, 3):
        results = emitted(program.kernel, program.arrays, program.sizes, threads)
        np.testing.assert_array_equal(results["y"], wanted)

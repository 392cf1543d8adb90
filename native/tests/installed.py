"""Check an installed wheel: every set of kernels multiplies exactly, and a program runs.

python native/tests/installed.py
"""

import littlefoot_native
import numpy as np

generator = np.random.default_rng(0)
rows, columns, outputs = 5, 64, 32
values = generator.integers(0, 256, (rows, columns), np.uint8)
weights = generator.integers(-127, 128, (outputs, columns), np.int8)
expected = values.astype(np.int32) @ weights.astype(np.int32).T
for kernels in littlefoot_native.available():
    product = littlefoot_native.Product(weights.view(np.uint8), columns, 8, [], 8, kernels)
    np.testing.assert_array_equal(product.multiply(values), expected)
    program = littlefoot_native.Program(columns, 2, kernels)
    halves = weights.astype(np.float16).view(np.uint8)
    program.linear(0, littlefoot_native.Product(halves, columns, 16, [], 0, kernels), None, None)
    result = program.run(values.astype(np.float32))
    np.testing.assert_allclose(result, expected, rtol=1e-5)

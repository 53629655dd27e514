import threading

import numpy as np
from PIL import Image

from hapgop.predict import Preprocessing, read_pictures

RULES = Preprocessing((2, 3), 1, (0.5,), (0.5,))


def test_order_sizes_and_errors(tmp_path):
    paths = []
    for number in range(60):
        size = (3, 2) if number % 2 else (6, 4)
        paths.append(str(tmp_path / f"{number}.png"))
        Image.new("L", size, number).save(paths[-1])
    paths[7] = str(tmp_path / "gone.png")
    readings = list(read_pictures(paths, RULES))
    assert [reading.path for reading in readings] == paths
    assert "gone.png: there is no such file" in str(readings[7].error)
    for number, reading in enumerate(readings):
        if number != 7:
            assert np.array_equal(reading.pixels, np.full((2, 3, 1), number))
            assert reading.resized == (number % 2 == 0)


def test_it_is_lazy_and_leaves_no_thread_behind(tmp_path):
    path = str(tmp_path / "a.png")
    Image.new("L", (3, 2)).save(path)
    asked = 0

    def names():
        nonlocal asked
        for _ in range(10_000):
            asked += 1
            yield path

    readings = read_pictures(names(), RULES)
    next(readings)
    assert asked < 100
    readings.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hapgop-read")]

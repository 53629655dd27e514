"""What a window shows, read from the page and compared with `explain`."""

import numpy as np
import pytest

from hapgop import explain
from hapgop.explain.opened import image_like

MINUS = "−"


def read_window(page):
    """The numbers of the page's window: values, filter, products, and the engine's value."""
    return page.evaluate("""() => ({
        tables: [...document.querySelectorAll(".equation table")].map(
            (table) => [...table.querySelectorAll("td")].map((cell) => Number(cell.dataset.value))),
        shown: [...document.querySelectorAll(".equation table")].map(
            (table) => [...table.querySelectorAll("td")].map((cell) => cell.textContent)),
        value: Number((document.querySelector(".engine .value") ??
            document.querySelector(".sum .term:last-child b")).dataset.value),
        total: [...document.querySelectorAll(".sum b")].map((cell) => Number(cell.dataset.value)),
    })""")


def shown(value, text):
    """Is the text the value, within the rounding that the page states: four decimals, or four figures?"""
    read = float(text.replace(MINUS, "-"))
    return abs(read - value) <= 0.5001e-4 * max(1.0, abs(value) / 10 * 10.01)


def check_numbers(visit, subject, count, seed, layers=None):
    """Random (layer, channel, pixel) on the page against `explain.window` and the engine's map."""
    random = np.random.default_rng(seed)
    net, picture_ = subject.net, subject.sample(0)
    maps = net.maps(picture_.x)
    names = layers or [n.name for n in net.graph.nodes if n.op in ("conv2d", "max_pool2d", "avg_pool2d")]
    page = visit.go(f"window?image={picture_.id}&layer={names[0]}")
    # Layer by layer, as each brings its maps and weights along.
    for layer in sorted(map(str, random.choice(names, count))):
        c, h, w = image_like(net.sizes[layer])
        unit = int(random.integers(c)), int(random.integers(h)), int(random.integers(w))
        wanted = explain.taken_apart(net, maps, layer, *unit)
        k = int(random.integers(len(wanted.channels)))
        page.evaluate(
            "where => { location.hash = where; }",
            f"/window?image={picture_.id}&layer={layer}&c={unit[0]}&y={unit[1]}&x={unit[2]}&k={k}",
        )
        label = f"{layer}, channel {unit[0]}, row {unit[1]}, column {unit[2]}:"
        page.wait_for_function(
            "label => document.querySelector('.pointed')?.getAttribute('aria-label')?.startsWith(label)", arg=label
        )
        found = read_window(page)
        where = (layer, unit, k)
        assert np.float32(found["value"]) == np.float32(wanted.engine), where
        assert np.array_equal(np.float32(found["tables"][0]), wanted.values[k].ravel()), where
        if wanted.filter is not None:
            assert np.array_equal(np.float32(found["tables"][1]), wanted.filter[k].ravel()), where
            np.testing.assert_allclose(found["tables"][2], wanted.products[k].ravel(), rtol=1e-6, atol=1e-12)
            parts = found["total"][: 3 if len(wanted.channels) > 1 else 2]
            assert sum(parts) == pytest.approx(wanted.before, rel=1e-5, abs=1e-5), where
        for value, text in zip(found["tables"][0], found["shown"][0], strict=True):
            assert wanted.values[k].size > 25 or shown(value, text), (where, value, text)

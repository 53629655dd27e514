"""What every room's tests share: one cache of compiled kernels, one Hypothesis profile, the helpers' folder."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

sys.path.insert(0, str(Path(__file__).parent / "helpers"))

# Several workers' teams share the cores: a thread that waits should sleep, not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# What is chosen, and so the last bits, must not hang on how busy the machine is; tests of tuning turn it on themselves.
os.environ.setdefault("HAPGOP_TUNE", "off")

# Compiling a kernel takes longer than any deadline; a special algorithm refuses most problems; a continuous integration
# run has to be repeatable.
settings.register_profile(
    "hapgop", deadline=None, suppress_health_check=[HealthCheck.filter_too_much], derandomize="CI" in os.environ
)
# Where a test is meant to fail, the first example will do: each smaller one would compile its kernels anew.
settings.register_profile("first", settings.get_profile("hapgop"), phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("HAPGOP_EXAMPLES", "hapgop"))


def pytest_configure(config: pytest.Config) -> None:
    # One folder for all runs and all workers: a key holds a digest of the generator, so that nothing in it is stale.
    os.environ.setdefault("HAPGOP_CACHE", str(config.rootpath / ".pytest_cache" / "hapgop"))


@pytest.fixture(scope="module")
def plain_sums() -> Iterator[None]:
    """Plain sums only, as comparisons to the last bit want them."""
    from hapgop import engine  # not before the settings above

    engine.set_precision("exact")
    yield
    engine.set_precision("fast")

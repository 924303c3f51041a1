"""What the engines share: the bits of an undisturbed sweep, and a server for a team."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

pytest.register_assert_rewrite("scenarios")

from injection import Evidence, evidence, sweep  # noqa: E402
from scenarios import SEEDS, specs  # noqa: E402

from tracking_stores import Team, free_port, new_cluster  # noqa: E402


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> list[Evidence]:
    """Of seeds 0, 1 and 2, in child processes of this machine."""
    results = tmp_path_factory.mktemp("reference")
    assert sweep(results, SEEDS, "launcher=local") == 0
    return [evidence(spec.folder) for spec in specs(results)]


@pytest.fixture(scope="session")
def team() -> Iterator[Team]:
    if find_spec("psycopg2") is None:
        pytest.skip("there is no driver: pip install 'stridelab[server]'")
    with new_cluster() as folder:
        made = Team(folder / "server", free_port())
        made.start()
        try:
            yield made
        finally:
            made.stop()

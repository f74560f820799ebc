"""Where gloo listens. That machines find each other so is shown in tests/cluster, whose names lead to 127.0.1.1."""

import os

import pytest

from pipelines.cluster.gloo import listen_where_ray_does


@pytest.mark.parametrize(("named", "listens"), [(None, "lo"), ("eth7", "eth7")])
def test_the_interface_is_that_of_rays_address_or_the_one_that_is_named(
    monkeypatch: pytest.MonkeyPatch, named: str | None, listens: str
) -> None:
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", named or "")
    if named is None:
        monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    listen_where_ray_does()
    assert os.environ["GLOO_SOCKET_IFNAME"] == listens

"""Where gloo listens: at the address under which Ray knows the machine.

Gloo by itself takes the address of the host's name, which on Debian and Ubuntu is 127.0.1.1 and elsewhere often none;
workers on other machines then do not find it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.train.torch import TorchConfig


def torch_config(backend: str, timeout_s: int) -> TorchConfig:
    """How the workers meet: over `backend`, with `timeout_s` seconds for each message."""
    from ray.train.torch import TorchConfig
    from ray.train.torch.config import _TorchBackend

    class Backend(_TorchBackend):  # type: ignore[misc]
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(listen_where_ray_does)
            super().on_start(worker_group, backend_config)

    class Config(TorchConfig):  # type: ignore[misc]
        @property
        def backend_cls(self) -> type:
            return Backend

    return Config(backend=backend, timeout_s=timeout_s)


def listen_where_ray_does() -> None:
    """On a worker, before it meets the others. GLOO_SOCKET_IFNAME, where it is set, names the interface itself."""
    import psutil
    import ray

    own = ray.util.get_node_ip_address()
    for interface, addresses in psutil.net_if_addrs().items():
        if any(each.address == own for each in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)

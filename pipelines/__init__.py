"""The stages of the pipeline and the commands around them; see ARCHITECTURE.md for the map.

Importing this package imports nothing heavy: torch, ray, mlflow and matplotlib are imported inside the functions that
need them, so that `--help` answers at once. A Python without the dependencies is named in one line.
"""

from importlib.util import find_spec
from sys import executable

_MISSING = [name for name in ("pydantic", "ruamel", "rich", "torch", "ray", "mlflow") if find_spec(name) is None]
if _MISSING:
    raise SystemExit(
        f"error: {executable} has no {', '.join(_MISSING)}. "
        "Run `make setup` once, then `source .venv/bin/activate` (or use `make repro`)."
    )

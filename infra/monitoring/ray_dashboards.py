"""Write the dashboards that Ray brings for Grafana, as the installed version makes them.

python infra/monitoring/ray_dashboards.py FOLDER
"""

import sys
from pathlib import Path


def main(folder: Path) -> None:
    """One file for the cluster, one for Ray Train."""
    from ray.dashboard.modules.metrics.grafana_dashboard_factory import (
        generate_default_grafana_dashboard,
        generate_train_grafana_dashboard,
    )

    folder.mkdir(parents=True, exist_ok=True)
    for name, make in {
        "ray.json": generate_default_grafana_dashboard,
        "ray_train.json": generate_train_grafana_dashboard,
    }.items():
        content, _ = make()
        (folder / name).write_text(content)
        print(folder / name)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))

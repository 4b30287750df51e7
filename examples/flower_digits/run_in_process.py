"""Run the app without Flower's simulation engine (which needs Ray): the same ServerApp and ClientApp, one process.

python examples/flower_digits/run_in_process.py byzantine=3 attack=scale num-server-rounds=3
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from flwr.app import Context, RecordDict

from zkkrum.errors import ZkkrumError
from zkkrum.flower import InProcessGrid

HERE = Path(__file__).parent
CLIENTS = 10


def main(arguments: list[str], clients: int = CLIENTS) -> None:
    sys.path.insert(0, str(HERE))  # as if the app were installed
    from flower_digits import client_app, server_app

    settings = tomllib.loads((HERE / "pyproject.toml").read_text())
    config: dict[str, Any] = settings["tool"]["flwr"]["app"]["config"]
    for argument in arguments:
        name, _, text = argument.partition("=")
        if name not in config:
            sys.exit(f"{name}: expected one of {', '.join(config)}")
        config[name] = text if isinstance(config[name], str) else type(config[name])(json.loads(text))
    grid = InProcessGrid(client_app.app, clients, config)
    try:
        server_app.app(grid, Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config=config))
    except ZkkrumError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(sys.argv[1:])

"""`zkkrum setup` and `zkkrum doctor`: bring the tools, and say what is missing.

Must not know how tools are found or installed: it prints what the toolchain says.
"""

from __future__ import annotations

from dataclasses import asdict

import click

from zkkrum import toolchain
from zkkrum.cli.console import AT_LEAST_ONE, json_option, print_json, say, spinner, tell
from zkkrum.toolchain import Toolchain


@click.command()
@click.option("--points", type=AT_LEAST_ONE, help="Also fetch this many points of the reference string.")
@json_option
def setup(points: int | None, as_json: bool) -> None:
    """Install the pinned nargo, bb and solc into the cache.

    Does nothing, and needs no network, when they are there. May be interrupted at any time.
    """
    with spinner("installing the tools"), Toolchain.find(notify=say) as tools:
        tools.ready()
        report = {
            "nargo": tools.nargo.version,
            "bb": tools.bb.version,
            "tools": str(tools.tools),
            "reference_string": str(tools.reference_string(points)) if points else None,
            "points": toolchain.points_available(),
        }
    if as_json:
        print_json(report)
        return
    tell(f"nargo {report['nargo']} and bb {report['bb']} are ready in {report['tools']}")
    tell(f"reference string: {report['points']:,} points at hand")


@click.command()
@click.option("--clean", is_flag=True, help="First remove what killed runs left: unfinished folders, private scratch.")
@json_option
@click.pass_context
def doctor(context: click.Context, clean: bool, as_json: bool) -> None:
    """Look at every tool, version, path and the reference string, and say how to repair what is wrong.

    The exit code is that of the first broken thing that commands cannot do without; 0 if there is none.
    """
    if clean:
        for path in toolchain.cache.clean():
            say(f"removed: {path}")
    checks = toolchain.doctor()
    broken = toolchain.first_broken(checks)
    code = broken.exit_code if broken else 0
    if as_json:
        print_json({"ok": broken is None, "checks": [asdict(check) for check in checks]})
        context.exit(code)
    for check in checks:
        mark = "ok" if check.ok else "NO" if check.required else "--"
        wish = "" if check.ok else f" (expected {check.expected})"
        tell(f"{mark}  {check.name}: {check.found}{wish}")
    for check in checks:
        if not check.ok:
            tell(f"{check.name}: {check.repair}")
    context.exit(code)

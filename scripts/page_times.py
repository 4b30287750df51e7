"""How long the page takes in headless Chromium, from the drop of a bundle to the answer (docs/page.md, Limits).

    python scripts/page_times.py [BUNDLE…]    examples/digits/bundle, and what else is named

Makes a page for the bundles' shapes, and drops each on a fresh tab, where nothing has been verified before, and a
second time. The browser's own clock is read. Must not judge: nothing depends on these figures.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "tests"))  # where the browser's protocol is spoken

from support.browser import CHROMIUM, Browser, Tab, browser  # noqa: E402

REPEAT = 3
WATCH = """
addEventListener('drop', () => { window.dropped = performance.now(); }, { capture: true });
new MutationObserver(() => {
    if (document.body.dataset.state === 'done') window.answered = performance.now();
}).observe(document.body, { attributeFilter: ['data-state'] });
"""


def answer(tab: Tab, bundle: Path) -> float:
    """Drop a bundle, and return the milliseconds until the page says what it is."""
    tab.eval("window.answered = undefined; document.body.dataset.state = 'ready'")
    tab.drop("#bundle", [bundle])
    tab.wait("window.answered !== undefined")
    assert tab.text("#answer").startswith("VERIFIED"), tab.text("#answer")
    return float(tab.eval("window.answered - window.dropped"))


def measure(running: Browser, page: Path, bundle: Path) -> tuple[float, float]:
    """Return the milliseconds of the first and of the second answer of a fresh tab."""
    tab = Tab(running, page.as_uri())
    tab.wait("document.body.dataset.state === 'ready'")
    tab.eval(WATCH)
    times = answer(tab, bundle), answer(tab, bundle)
    tab.close()
    return times


def main(arguments: list[str]) -> int:
    if CHROMIUM is None:
        print("expected Chromium on the PATH, found none", file=sys.stderr)
        return 4
    bundles = [CHECKOUT / "examples" / "digits" / "bundle", *(Path(each).resolve() for each in arguments)]
    print(subprocess.run([CHROMIUM, "--version"], capture_output=True, text=True, check=True).stdout.strip())
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "verify.html"
        options = [word for bundle in bundles for word in ("--bundle", str(bundle))]
        subprocess.run([sys.executable, "-m", "zkkrum", "page", "-o", str(page), *options], check=True, stdout=2)
        print(f"page: {page.stat().st_size:,} bytes; fastest of {REPEAT} fresh tabs, milliseconds from the drop")
        with browser(Path(scratch) / "profile") as running:
            for bundle in bundles:
                proofs = len(list(bundle.rglob("*proof")))
                found = [measure(running, page, bundle) for _ in range(REPEAT)]
                first, again = (min(times) for times in zip(*found, strict=True))
                print(f"{bundle}: {proofs} proofs: first {first:.0f}, again {again:.0f}, {again / proofs:.1f} a proof")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

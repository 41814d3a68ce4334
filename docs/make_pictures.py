"""Make the pictures of README and docs from the demo's digits: ``python docs/make_pictures.py``.

Everything comes from what packages hold: the scans of scikit-learn, embedded and clustered by
``fmcluster demo``. Twenty answers are given as a person would, by what the scans show. Needs the
extras app, packaged and report, selenium, and a Chromium with its driver, as the tests do.

python docs/make_pictures.py [--demo DIR] [--only app notebook reliability]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import fmcluster as fmc
from fmcluster.embedding.data.source import Source
from fmcluster.functional.calibration import ece, reliability_table
from fmcluster.functional.metrics import matched_correct

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
N_ANSWERS = 20
# Colors of a picture: enough for ten hues and their shades, and under 150 kB.
N_COLORS = 160
GREEN, RED, GRAY = "#2f7d4f", "#c0392b", "#7f8c8d"


def save(picture: Any, name: str) -> None:
    """Write a picture with few colors."""
    from PIL import Image

    PICTURES.mkdir(exist_ok=True)
    small = picture.convert("RGB").quantize(N_COLORS, dither=Image.Dither.NONE)
    small.save(PICTURES / f"{name}.png", optimize=True)


# -- the app


@contextlib.contextmanager
def served(run: Path) -> Iterator[str]:
    """Give the address of the app on a run."""
    command = [sys.executable, "-m", "fmcluster", "app", str(run), "--no-browser", "--json"]
    app = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert app.stdout is not None
        yield json.loads(app.stdout.readline())["url"]
    finally:
        app.send_signal(signal.SIGINT)
        app.wait(30)


def ask(url: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask the app as its page does, again while it is loading."""
    address, token = url.split("/?token=")
    data = None if body is None else json.dumps(body).encode()
    headers = {"X-Fmcluster-Token": token, "Content-Type": "application/json"}
    for _ in range(200):
        request = urllib.request.Request(f"{address}/api/{path}", data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            time.sleep(0.2)
    raise TimeoutError(f"{path}: the app did not load")


def answer(url: str, run: Path) -> None:
    """Say what twenty rows show, and wait until the clusters hold it."""
    result = fmc.ClusterResult.load(run).attach(fmc.EmbeddingStore.open(run / "store"))
    digits = pd.read_parquet(run / "data.parquet", columns=["digit"])["digit"]
    for one in fmc.query(result, N_ANSWERS).tolist():
        ask(url, "act", {"op": "label", "ids": [one], "label": f"digit {digits[one]}"})
    while (state := ask(url, "state"))["busy"] or state["pending"]:
        if state["problem"]:
            raise RuntimeError(state["problem"])
        time.sleep(0.3)


@contextlib.contextmanager
def browser(width: int, height: int) -> Iterator[Any]:
    """Give a headless Chromium, started as the tests start it."""
    sys.path.insert(0, str(ROOT / "tests"))
    from helpers_browser import chromium_driver

    with tempfile.TemporaryDirectory() as profile, chromium_driver(profile) as driver:
        driver.set_window_size(width, height)
        yield driver


def until(driver: Any, condition: str, seconds: float = 60) -> None:
    """Wait until an expression of the page is true."""
    end = time.monotonic() + seconds
    while not driver.execute_script(f"return {condition}"):
        if time.monotonic() > end:
            raise TimeoutError(f"never: {condition}")
        time.sleep(0.1)


def shot(driver: Any, name: str) -> None:
    """Write what the browser shows."""
    from PIL import Image

    save(Image.open(io.BytesIO(driver.get_screenshot_as_png())), name)


def app_pictures(run: Path) -> None:
    """Draw the page as it is after twenty answers, and its Label tab."""
    with served(run) as url, browser(1280, 860) as driver:
        answer(url, run)
        driver.get(url)
        until(driver, "document.getElementById('map').dataset.drawn")
        until(driver, "document.getElementById('map-wait').hidden")
        time.sleep(2)  # thumbnails come one by one
        shot(driver, "app")
        driver.find_element("id", "tab-label").click()
        until(driver, "document.querySelector('#question img')")
        time.sleep(0.5)
        shot(driver, "label")
        ask(url, "act", {"op": "save"})
        driver.execute_script("window.onbeforeunload = null")


# -- what is drawn from numbers


def answered(run: Path) -> Any:
    """Return the demo's result with the same twenty answers, and its pictures."""
    result = fmc.ClusterResult.load(run).attach(fmc.EmbeddingStore.open(run / "store"))
    result = replace(result, source=Source(run / "data.parquet", column="image"))
    digits = pd.read_parquet(run / "data.parquet", columns=["digit"])["digit"]
    ids = fmc.query(result, N_ANSWERS).tolist()
    return result.with_answers(labels={one: f"digit {digits[one]}" for one in ids})


def notebook_picture(run: Path) -> None:
    """Draw what a notebook's cell shows."""
    page = run.parent / "cell.html"
    style = "font:13px system-ui,sans-serif;margin:12px;color:#222;background:#fff"
    html = answered(run)._repr_html_()
    page.write_text(f'<!doctype html><meta charset="utf-8"><body style="{style}">{html}')
    with browser(640, 700) as driver:
        driver.get(page.as_uri())
        height = driver.execute_script("return document.body.firstChild.offsetHeight")
        width = driver.execute_script("return document.querySelector('table').offsetWidth")
        from PIL import Image

        whole = Image.open(io.BytesIO(driver.get_screenshot_as_png()))
        save(whole.crop((0, 0, width + 30, height + 26)), "notebook")


def reliability_picture(run: Path) -> None:
    """Draw accuracy over score, then over confidence, of k-means on the pixels of the scans."""
    from matplotlib.figure import Figure
    from PIL import Image
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    figure = Figure(figsize=(8.4, 3.9), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, calibrate in zip(panels, (False, True), strict=True):
        result = fmc.cluster(x, n_clusters=10, head="kmeans", calibrate=calibrate)
        correct = matched_correct(y, result.labels)
        bins = reliability_table(result.confidence, correct, n_bins=10)
        draw_reliability(axes, bins)
        word = "after: confidence" if calibrate else "before: score"
        error = 100 * ece(result.confidence, correct)
        axes.set_title(f"{word}, calibration error {error:.0f} %")
        axes.set_xlabel("confidence" if calibrate else "score (largest probability)")
    panels[0].set_ylabel("share of rows that are right")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    save(Image.open(file), "reliability")


def draw_reliability(axes: Any, bins: Any) -> None:
    """Draw accuracy in each bin of confidence; the diagonal is honest."""
    there = bins.count > 0
    width = 1 / len(bins.count)
    left = np.arange(len(bins.count))[there] * width
    accuracy, said = bins.accuracy[there], bins.confidence[there]
    axes.bar(left, accuracy, width * 0.94, align="edge", color=GREEN, alpha=0.8, label="are right")
    axes.bar(
        left, said - accuracy, width * 0.94, bottom=accuracy, align="edge", facecolor="none",
        edgecolor=RED, hatch="////", linewidth=0.8, label="gap to what is said",
    )  # fmt: skip
    axes.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend(loc="upper left", fontsize="small", framealpha=0.95)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


DRAWN: dict[str, Callable[[Path], None]] = {
    "reliability": reliability_picture,
    "notebook": notebook_picture,
    "app": app_pictures,
}


def main(argv: Any = None) -> None:
    """Make the demo where none is given, then draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, help="what `fmcluster demo` wrote (default: new)")
    parser.add_argument("--only", nargs="+", choices=list(DRAWN), default=list(DRAWN))
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "demo"
        if args.demo:
            shutil.copytree(args.demo, run)
        else:
            subprocess.run([sys.executable, "-m", "fmcluster", "demo", "--out", run], check=True)
        for name in args.only:
            DRAWN[name](run)


if __name__ == "__main__":
    main()

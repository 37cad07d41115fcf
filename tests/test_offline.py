"""Tables of many images: listing, shards, part files, bad images, processes that end."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnrt
from cnnrt import cli
from cnnrt.classification import scores_of_images
from cnnrt.errors import FormatError, GraphError, ImageError, ShapeError
from cnnrt.images import decoded, walk
from cnnrt.offline import job
from cnnrt.offline.job import Job, Row, classify_files, cut, list_images
from cnnrt.offline.model_file import KEPT, ModelFile
from cnnrt.offline.predictor import Predictor
from cnnrt.progress import progress_bar
from scripts import environment

EXAMPLES = Path(__file__).parent.parent / "examples"
LENET = EXAMPLES / "lenet5.bin"
DIGITS = EXAMPLES / "digits"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("CNNRT_CACHE", str(folder))
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """60 pictures of digits in three folders, a damaged one among them, and a text."""
    folder = tmp_path / "photos"
    digits = sorted(DIGITS.glob("*.png"))
    for i in range(60):
        path = folder / f"{i % 3}" / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(digits[i % 10], path)
    (folder / "1" / "004.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("none")
    return folder


def table(*arguments: Any) -> int:
    return cli.main(["run", str(LENET), *map(str, arguments)])


def read_lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def expected(folder: Path) -> list[Row]:
    """The rows, by the plain Python API."""
    model = cnnrt.load(LENET)
    rows: list[Row] = []
    for file in cnnrt.image_files([folder]):
        row: Row = {"image": str(file), "label": None, "index": None, "probability": None}
        row |= {"classes": [], "error": None}
        try:
            found = model.classify(file, top=5)
            row["classes"] = [vars(c) for c in found]
            row |= row["classes"][0]
        except ImageError as error:
            row["error"] = str(error)
        rows.append(row)
    return rows


class Here:
    """An engine of this process. Some of its processes "end", as `dies` says."""

    def __init__(
        self, model: ModelFile, dies: Callable[[Sequence[str]], bool] = lambda _: False
    ) -> None:
        self.model, self.dies = model, dies
        self.slots = 3
        self.tasks: list[tuple[int, Sequence[str]]] = []
        self.sizes: list[int] = []

    def submit(self, key: int, files: Sequence[str]) -> None:
        assert len(self.tasks) < self.slots
        self.tasks.append((key, files))

    def wait(self) -> tuple[int, list[Row] | None]:
        key, files = self.tasks.pop()  # the last one first: no engine promises an order
        self.sizes.append(len(files))
        return key, None if self.dies(files) else classify_files(self.model, files, 5, 1)


def test_the_table_is_that_of_the_plain_api(photos: Path, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "out.jsonl"
    assert table(photos, "--output", path, "--workers", 2, "--shard", 8) == 1  # a bad image
    assert read_lines(path) == expected(photos)
    assert "60 images, 1 that cannot be read" in capsys.readouterr().out
    assert not Path(f"{path}.parts").exists()
    (photos / "1" / "004.png").unlink()
    assert table(photos, "--output", path, "--workers", 1) == 0
    assert len(read_lines(path)) == 59


def test_a_parquet_file(photos: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "out.parquet"
    assert table(photos, "--output", path, "--workers", 1, "--top", 2) == 1
    found = parquet.read_table(path)
    assert found.column_names == ["image", "label", "index", "probability", "classes", "error"]
    whole = [{**row, "classes": row["classes"][:2]} for row in expected(photos)]
    assert found.to_pylist() == whole


def test_what_an_earlier_run_left_is_kept(photos: Path, tmp_path: Path) -> None:
    model = ModelFile(LENET)
    path = tmp_path / "out.jsonl"

    class Stopped(Exception):
        pass

    class Fails(Here):
        def wait(self) -> tuple[int, list[Row] | None]:
            if len(self.sizes) == 4:
                raise Stopped
            return super().wait()

    def job() -> Job:
        return Job(model, [photos], path, shard=4)

    first = Fails(model)
    with pytest.raises(Stopped), progress_bar(60) as bar:
        job().run(first, bar)
    assert not path.exists()
    second, again = Here(model), job()
    with progress_bar(60) as bar:
        assert again.run(second, bar) == 60
    assert again.resumed == sum(first.sizes)
    assert again.resumed + sum(second.sizes) == 60
    assert read_lines(path) == expected(photos)


def test_a_large_shard_goes_out_in_small_tasks(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the processes end at nearly the same time; the rows stay in order."""
    monkeypatch.setattr(job, "TASK", 7)
    model, path = ModelFile(LENET), tmp_path / "out.jsonl"
    engine, work = Here(model), Job(model, [photos], path, shard=60)
    shards = [len(files) for files in cut(list_images([photos]), 60)]
    assert max(shards) > 14
    with progress_bar(60) as bar:
        assert work.run(engine, bar) == 60
    sizes = [min(7, n - i) for n in shards for i in range(0, n, 7)]
    assert sorted(engine.sizes) == sorted(sizes)
    assert read_lines(path) == expected(photos)


def test_another_model_or_another_top_does_not_take_old_rows(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    other = cnnrt.load(LENET)
    assert other.labels
    other.labels = [f"digit {label}" for label in other.labels]
    parts = set()
    for model, top in ((ModelFile(LENET), 5), (ModelFile(LENET), 3), (ModelFile(other), 5)):
        job = Job(model, [photos], path, top=top)
        parts |= {task.shard.part for task in job._tasks(progress_bar(0))}
    assert len(parts) % 3 == 0
    assert len({p.name for p in parts}) == len(parts)


def test_a_damaged_part_file_is_named(photos: Path, tmp_path: Path) -> None:
    model, path = ModelFile(LENET), tmp_path / "out.jsonl"
    job = Job(model, [photos], path)
    (task, *_) = job._tasks(progress_bar(0))
    task.shard.part.parent.mkdir()
    task.shard.part.write_text('{"image": ')
    with progress_bar(60) as bar, pytest.raises(FormatError, match="damaged"):
        Job(model, [photos], path).run(Here(model), bar)


def test_a_picture_that_ends_its_process_costs_one_row(photos: Path, tmp_path: Path) -> None:
    model, path = ModelFile(LENET), tmp_path / "out.jsonl"
    bad = str(photos / "2" / "005.png")
    engine = Here(model, lambda files: bad in files)
    with progress_bar(60) as bar:
        assert Job(model, [photos], path, shard=16).run(engine, bar) == 60
    rows = {row["image"]: row for row in read_lines(path)}
    assert "processes ended" in rows.pop(bad)["error"]
    whole = {row["image"]: row for row in expected(photos)}
    del whole[bad]
    assert rows == whole
    assert engine.sizes.count(1) > 2


def test_a_process_that_is_killed_once_costs_no_row(photos: Path, tmp_path: Path) -> None:
    model, path = ModelFile(LENET), tmp_path / "out.jsonl"
    seen: set[str] = set()

    def dies(files: Sequence[str]) -> bool:
        new = files[0] not in seen
        seen.add(files[0])
        return new

    with progress_bar(60) as bar:
        Job(model, [photos], path, shard=8).run(Here(model, dies), bar)
    assert read_lines(path) == expected(photos)


def test_kill_9_of_workers_and_of_the_run(photos: Path, tmp_path: Path) -> None:
    """A killed worker is replaced; a killed run goes on where it was."""
    for i in range(400):
        shutil.copy(DIGITS / f"{i % 10}.png", photos / f"x{i:04}.png")
    path = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "cnnrt", "run", str(LENET), str(photos), "--output", str(path)]
    command += ["--workers", "2", "--shard", "4"]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())

    def parts() -> int:
        return len(list(Path(f"{path}.parts").glob("*.jsonl")))

    run = start()
    deadline = time.monotonic() + 60
    while parts() < 3 and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    if children.exists():
        for child in children.read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(int(child), signal.SIGKILL)
                break
    run.kill()
    run.wait()
    assert run.stdout
    run.stdout.close()
    left = parts()
    assert left >= 3
    run = start()
    out, _ = run.communicate(timeout=120)
    assert run.returncode == 1, out
    assert "of an earlier run" in out
    assert read_lines(path) == expected(photos)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc")
def test_a_killed_worker_is_replaced(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for i in range(600):
        shutil.copy(DIGITS / f"{i % 10}.png", photos / f"x{i:04}.png")
    command = [sys.executable, "-m", "cnnrt", "run", str(LENET), str(photos), "--output", str(path)]
    command += ["--workers", "2", "--shard", "4"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    killed: list[int] = []
    deadline = time.monotonic() + 60
    while not killed and run.poll() is None and time.monotonic() < deadline:
        if any(Path(f"{path}.parts").glob("*.jsonl")):
            for child in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split():
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGKILL)
                    killed.append(int(child))
                    break
        time.sleep(0.002)
    out, _ = run.communicate(timeout=120)
    assert killed
    assert run.returncode == 1, out
    assert read_lines(path) == expected(photos)


def test_listing(photos: Path, tmp_path: Path) -> None:
    one = photos / "notes.txt"
    assert list(list_images([one, photos])) == [str(one), *map(str, cnnrt.image_files([photos]))]
    names = ["b/c.png", "b.png", "a/z.png", "a.b/x.png", "a.png", "ä.PNG"]
    folder = tmp_path / "names"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "loop").symlink_to(folder)
    assert list(walk(folder)) == sorted(
        (str(folder / n) for n in names), key=lambda p: Path(p).parts
    )
    with pytest.raises(ImageError, match="no images"):
        cnnrt.image_files([tmp_path / "cache", EXAMPLES / "deploy"][1:])


def test_shards_are_stable() -> None:
    files = [f"{i:05}.jpg" for i in range(5000)]
    shards = list(cut(files, 64))
    assert [f for shard in shards for f in shard] == files
    assert max(map(len, shards)) <= 128
    assert 50 <= 5000 / len(shards) <= 80
    more = list(cut([*files[:2500], "02499b.jpg", *files[2500:]], 64))
    assert len(set(shards) - set(more)) <= 3
    assert list(cut([], 64)) == []
    ends = [zlib.crc32(s[-1].encode()) % 64 == 0 or len(s) == 128 for s in shards[:-1]]
    assert all(ends)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--engine", "local"], "add --output x.parquet"),
        (["--shard", "3"], "add --output x.parquet"),
        (["--output", "x.jsonl", "--json"], "--json prints"),
        (["--output", "x.jsonl", "--address", "auto"], "--address is of --engine ray"),
        (["--output", "x.jsonl", "--engine", "ray", "--workers", "2"], "--workers is of"),
    ],
)
def test_options_that_do_not_fit(arguments: list[str], said: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as end:
        table(DIGITS, *arguments)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_images_and_a_network_without_classes(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty").mkdir()
    path = tmp_path / "x.jsonl"
    assert table(tmp_path / "empty", "--output", path) == 1
    assert "no images" in capsys.readouterr().err
    model = cnnrt.load(LENET)
    model.preprocessing = None
    with pytest.raises(GraphError, match="preset"):
        Predictor(model).check()
    with pytest.raises(FormatError, match="ends in"):
        Job(ModelFile(LENET), [DIGITS], tmp_path / "x.csv")


def test_predictor_on_every_kind_of_batch() -> None:
    model = cnnrt.load(LENET)
    predict = Predictor(model)
    files = sorted(DIGITS.glob("*.png"))[:5]
    here = predict([str(f) for f in files])
    assert list(here) == ["label", "index", "probability", "error"]
    assert list(here["label"]) == [model.classify(f, 1)[0].label for f in files]
    assert list(here["error"]) == [""] * 5
    pictures = [np.asarray(Image.open(f).convert("L")) for f in files]
    objects = np.empty(5, object)
    objects[:] = [f.read_bytes() for f in files]
    x = model.input_from(files)
    for batch in (objects, pictures, np.stack(pictures), np.stack(pictures)[..., None], x, files):
        there = predict(batch)
        for name in here:
            assert np.array_equal(here[name], there[name]), name
    assert predict([])["index"].shape == (0,)
    with pytest.raises(ShapeError):
        predict(x[:, :, :27])


def test_predictor_of_features_and_tensors() -> None:
    model = cnnrt.load(LENET)
    files = sorted(DIGITS.glob("*.png"))[:4]
    x = model.input_from(files)
    features = cnnrt.FeatureExtractor(model)(x)
    bad: list[Any] = [*files[:2], b"bad", None, *files[2:]]
    found = Predictor(model, "features")(bad)
    good = [0, 1, 4, 5]
    assert np.array_equal(found["features"][good], features)
    assert np.isnan(found["features"][2:4]).all()
    assert "Pillow" in found["error"][2]
    assert [bool(e) for e in found["error"]] == [False, False, True, True, False, False]
    names = [model.graph.nodes[1].outputs[0], model.outputs[0].name]
    tensors = Predictor(model, names)(bad)
    whole = model.run(x, outputs=names)
    for name in names:
        assert np.array_equal(tensors[name][good], whole[name])
    nothing = Predictor(model, names)([b"bad"])
    assert nothing[names[0]].shape == (1, *whole[names[0]].shape[1:])
    assert Predictor(model, names)(x[:0])[names[1]].shape == (0, 10)
    for output, said in (("classes", "output is"), (["nothing"], "no tensor")):
        with pytest.raises((ValueError, GraphError), match=said):
            Predictor(model, output)


def test_scores_with_further_axes_of_one() -> None:
    """Fully convolutional classifiers give (N, classes, 1, 1)."""
    y = np.arange(10, dtype=np.float32).reshape(2, 5, 1, 1)
    rows = scores_of_images(lambda _: y, np.zeros_like, [0, 1], "N")
    assert [row.shape for row in rows] == [(5,), (5,)]


def test_a_model_file_is_written_once_and_mapped(cache: Path) -> None:
    file = ModelFile(LENET)
    assert file.digest == ModelFile(LENET).digest
    path = file.path()
    assert path is not None
    assert path.parent.parent == cache
    stamp = path.stat()
    light = pickle.loads(pickle.dumps(file.here()))
    assert len(pickle.dumps(file.here())) < 1000
    assert light.path() == path
    assert path.stat() == stamp
    x = np.ones((1, 1, 28, 28), np.float32)
    assert np.array_equal(light.load()(x), cnnrt.load(LENET, threads=1)(x))
    assert light.load() is light.load()
    for i in range(KEPT + 2):
        other = cnnrt.load(LENET)
        other.labels = [f"{label} {i}" for label in other.labels or ()]
        assert ModelFile(other).path()
    assert len(list(path.parent.iterdir())) == KEPT


def test_a_model_file_without_a_cache_or_with_a_damaged_one(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = cnnrt.load(LENET)
    other.labels = [f"{label}!" for label in other.labels or ()]
    file = ModelFile(other)
    path = file.path()
    assert path
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError):
        file.load()
    monkeypatch.setenv("CNNRT_CACHE", "")
    assert file.path() is None
    assert file.here() is file
    assert file.load().labels == other.labels


def test_bytes_of_a_picture() -> None:
    assert decoded((DIGITS / "1.png").read_bytes()).size == (28, 28)
    eps = io.BytesIO()
    Image.new("RGB", (4, 4)).save(eps, "EPS")
    for data, said in ((b"", "Pillow"), (eps.getvalue(), "EPS")):
        with pytest.raises(ImageError, match=said):
            decoded(data)

"""Videos: frames in and out, and `python -m cnnrt run` on them."""

from __future__ import annotations

import errno
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnrt
from cnnrt import FormatError
from cnnrt.cli import main
from cnnrt.tasks.draw import colour_of
from task_networks import given
from test_findings import BOXES, save

pytest.importorskip("av")
video = cnnrt.video


def made(path: Path, count: int = 12, size: tuple[int, int] = (64, 96), rate: float = 25) -> Path:
    """A video of a grey ground that grows lighter, with a red square that moves right."""
    with video.VideoWriter(path, size, rate) as writer:
        for i in range(count):
            pixels = np.full((*size, 3), 40 + 8 * (i % 12), np.uint8)
            left = 4 * (i % 12)
            pixels[8:24, left : left + 16] = (200, 30, 60)
            writer.write(pixels, i / rate)
    return path


def damaged(path: Path, target: Path, share: float) -> Path:
    """A copy of a video that ends early."""
    data = path.read_bytes()
    target.write_bytes(data[: int(share * len(data))])
    return target


@pytest.fixture
def detector(tmp_path: Path) -> str:
    return save(tmp_path / "detector.bin", given({"y": BOXES}, labels=["cat", "dog"]))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_frames_come_back(suffix: str, tmp_path: Path) -> None:
    path = made(tmp_path / f"clip{suffix}")
    found = list(video.frames(path))
    assert len(found) == 12
    for i, pixels in enumerate(found):
        assert pixels.shape == (64, 96, 3) and pixels.dtype == np.uint8
        assert np.abs(pixels[40:, 60:].astype(int) - (40 + 8 * i)).mean() <= 3
        middle = pixels[12:20, 4 * i + 4 : 4 * i + 12].reshape(-1, 3).mean(0)
        assert np.abs(middle - (200, 30, 60)).max() <= 12
    with video.VideoReader(path) as reader:
        assert reader.size == (64, 96) and reader.rate == 25
        times = [frame.time for frame in reader]
    assert times == pytest.approx([i / 25 for i in range(12)], abs=1e-3)


def test_odd_sizes_and_uneven_times(tmp_path: Path) -> None:
    times = [0, 0.04, 0.5, 0.5, 2]  # the fourth has the time of the third: a tick later
    with video.VideoWriter(tmp_path / "odd.mp4", (33, 47)) as writer:
        for time in times:
            writer.write(np.full((33, 47, 3), 90, np.uint8), time)
    with video.VideoReader(tmp_path / "odd.mp4") as reader:
        found = list(reader)
    assert [frame.pixels.shape for frame in found] == [(34, 48, 3)] * 5
    assert [frame.time for frame in found] == pytest.approx(times, abs=1e-3)


def test_leaving_early_ends_the_thread(tmp_path: Path) -> None:
    path = made(tmp_path / "clip.mp4", 100)
    frames = video.frames(path)
    assert len(list(islice(frames, 3))) == 3
    frames.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name == "cnnrt-stage"]


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name, message in (
        ("noise.mp4", "cannot be read as a video"),
        ("empty.mp4", "cannot be read as a video"),
        ("none.mp4", "no such file"),
    ):
        with pytest.raises(FormatError, match=f"{name}: {message}"):
            next(video.frames(tmp_path / name))
    with pytest.raises(FormatError, match=r"http://x/clip\.mp4: no such file"):
        next(video.frames("http://x/clip.mp4"))
    with pytest.raises(FormatError, match=r"x\.gif: expected a file that ends in"):
        video.VideoWriter(tmp_path / "x.gif", (4, 4))
    with pytest.raises(FormatError, match="camera 99"):
        video.VideoReader(99)


def test_a_video_that_is_cut_off(tmp_path: Path) -> None:
    """Frames before the end are given; then comes the error."""
    import av

    path = tmp_path / "fast.mp4"  # its index stands in front
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(30):
            pixels = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    assert len(list(video.frames(path))) == 30
    seen = []
    with pytest.raises(FormatError, match=r"short\.mp4: is (cut off|damaged)"):
        for pixels in video.frames(damaged(path, tmp_path / "short.mp4", 0.6)):
            seen.append(pixels)
    assert 10 <= len(seen) < 30


def test_run_draws_a_video(
    detector: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made(tmp_path / "clip.mp4", size=(128, 128))
    out, lines = tmp_path / "out.mp4", tmp_path / "found.jsonl"
    files = ["--draw", str(out), "--output", str(lines)]
    assert main(["run", detector, str(path), *files, "--threads", "2"]) == 0
    first, cat, dog, wrote = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{path}: 12 frames of 128 x 128 pixels in ")
    assert "frames per second; network " in first
    assert cat.split() == ["dog", "12", "in", "12", "frames"]
    assert dog.split() == ["cat", "12", "in", "12", "frames"]
    assert wrote == f"wrote {out}: {out.stat().st_size:,} bytes"
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(12))
    assert [row["time"] for row in rows] == pytest.approx([i / 25 for i in range(12)], abs=1e-3)
    assert rows[3]["detections"][0]["box"] == [16, 32, 80, 96]
    drawn = list(video.frames(out))
    assert len(drawn) == 12
    for before, after in zip(video.frames(path), drawn, strict=True):
        line = after[60:70, 15:18].reshape(-1, 3).astype(int)
        nearest = np.abs(line - colour_of(1)).sum(1).min()
        assert nearest < 120  # the box's left side; H.264 keeps half of the colours
        assert np.abs(after[110:, 100:].astype(int) - before[110:, 100:]).max() <= 6


def test_run_prints_a_line_for_each_frame(
    detector: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made(tmp_path / "clip.mkv", 3)
    assert main(["run", detector, str(path), "--json", "--min-score", "0.7"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(row["detections"]) for row in rows] == [1, 1, 1]
    assert rows[0]["video"] == str(path)


def test_what_was_written_before_the_damage_stays(
    detector: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = made(tmp_path / "whole.mkv", 60)
    data = bytearray(whole.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    (tmp_path / "bad.mkv").write_bytes(data)
    out, lines = tmp_path / "out", tmp_path / "found.jsonl"
    files = ["--draw", str(out), "--output", str(lines)]
    assert main(["run", detector, str(tmp_path / "bad.mkv"), *files]) == 1
    printed, err = capsys.readouterr()
    assert "bad.mkv: is damaged, " in err and err.count("\n") == 1
    count = len(list(video.frames(out / "bad.mp4")))
    assert 5 < count <= 60
    assert len(lines.read_text().splitlines()) == count
    assert f"bad.mkv: {count} frames of" in printed


def test_what_does_not_go_together(
    detector: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = made(tmp_path / "clip.mp4", 3)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    for more in (
        [str(path), str(tmp_path / "a.png")],
        [str(path), "--camera", "0"],
        [],
        [str(path), "--output", "x.npz"],
    ):
        with pytest.raises(SystemExit):
            main(["run", detector, *more])
    capsys.readouterr()
    before = path.read_bytes()
    assert main(["run", detector, str(path), "--draw", str(path)]) == 1
    assert "would write over the video" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert main(["run", detector, "--camera", "99"]) == 1
    assert "camera 99" in capsys.readouterr().err
    lenet5 = Path(__file__).parent.parent / "examples" / "lenet5.bin"
    assert main(["run", str(lenet5), str(path)]) == 1
    assert "a video is for networks that detect" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"a video needs av: pip install 'av>=14'"):
        next(video.frames(path))
    assert main(["run", detector, str(path)]) == 1
    assert "a video needs av" in capsys.readouterr().err


def test_an_interruption_leaves_a_video(
    detector: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera ends by Ctrl-C; the frames until then can be played."""
    from cnnrt.commands import videos

    path = made(tmp_path / "clip.mp4", 30)
    count = videos._Summary.count

    def interrupted(self: videos._Summary, result: videos._Result) -> None:
        count(self, result)
        if self.frames == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(videos._Summary, "count", interrupted)
    assert main(["run", detector, str(path), "--draw", str(tmp_path / "out.mp4")]) == 130
    assert len(list(video.frames(tmp_path / "out.mp4"))) == 7


class Capture:
    """A camera: the frames of a file, and what happens after some of them."""

    def __init__(self, container: Any, number: int, event: Callable[[], None]) -> None:
        self.container, self.number, self.event = container, number, event

    def demux(self, stream: Any) -> Iterator[Any]:
        for i, packet in enumerate(self.container.demux(stream)):
            if i == self.number:
                self.event()
            time.sleep(0.02)
            yield packet

    def __getattr__(self, name: str) -> Any:
        return getattr(self.container, name)


def unplugged() -> None:
    raise OSError(errno.ENODEV, "No such device")


def nothing() -> None:
    pass


@pytest.mark.skipif(sys.platform not in video.CAMERAS, reason="no cameras are known here")
@pytest.mark.parametrize(
    ("event", "status", "least"),
    [(nothing, 0, 40), (unplugged, 1, 15), (lambda: signal.raise_signal(signal.SIGINT), 130, 1)],
    ids=["the end", "unplugged", "Ctrl-C"],
)
def test_a_camera_ends(
    event: Callable[[], None],
    status: int,
    least: int,
    detector: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyAV opens a file in place of a camera. What was found until its end stays."""
    import av

    threads = threading.active_count()
    path, opened = made(tmp_path / "clip.mkv", 40), av.open
    form, device = video.CAMERAS[sys.platform]

    def stand_in(place: str, *arguments: Any, **options: Any) -> Any:
        if place != device.format(3):
            return opened(place, *arguments, **options)
        assert options == {"format": form}
        return Capture(opened(str(path)), 18, event)

    monkeypatch.setattr(av, "open", stand_in)
    out, lines = tmp_path / "out", tmp_path / "found.jsonl"
    files = ["--draw", str(out), "--output", str(lines)]
    assert main(["run", detector, "--camera", "3", *files]) == status
    printed, err = capsys.readouterr()
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    drawn = len(list(video.frames(out / "camera-3.mp4")))
    assert least <= len(rows) <= 40 and len(rows) - 1 <= drawn <= len(rows)
    assert least > 15 or len(rows) < 40
    assert rows[0]["video"] == "camera 3"
    assert f"camera 3: {drawn} frames of" in printed
    lost = "camera 3: gave no more pictures after" in err and "No such device" in err
    assert lost == (event is unplugged)
    deadline = time.monotonic() + 10
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= threads

"""What an analysis holds does not grow with a video's length, but for a few numbers a frame."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny.ffmpeg import picture

# Prints the growth of the peak, in MiB, over what a first short video took.
_PROGRAM = """
import sys
from pathlib import Path

from kinetoscope.data.config import PrepareDataConfig
from kinetoscope.data.prepare.analysis import analyze


def peak_kib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


peaks = []
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        assert analyze(file, PrepareDataConfig()).num_frames > 0
    peaks.append(peak_kib())
print((peaks[1] - peaks[0]) / 1024)
"""


@pytest.mark.slow
def test_a_video_forty_times_as_long_takes_hardly_more_memory(tmp_path: Path) -> None:
    short, long = (
        picture(
            tmp_path / f"{count}.mp4",
            source=f"testsrc2=size=192x144:rate=30:duration={count / 30}",
            codec="mpeg4",
        )
        for count in (150, 6000)
    )
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM, str(short), str(long)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # The 5850 frames more are 485 MB; the thumbnails kept are bounded, and 80 MB here.
    assert float(done.stdout) < 130

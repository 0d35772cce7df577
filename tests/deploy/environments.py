"""Virtual environments for programs that cannot share one with the router: made once, under `.cache/`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def executables(name: str) -> Path:
    """The `bin` directory of the environment that `requirements-NAME.txt` describes; installs it if need be.

    They lie under `.cache/environments`, or where the variable ENVIRONMENTS says. Raises CalledProcessError.
    """
    requirements = HERE / f"requirements-{name}.txt"
    directory = Path(os.environ.get("ENVIRONMENTS", HERE.parents[1] / ".cache" / "environments")) / name
    stamp = directory / requirements.name
    if not stamp.is_file() or stamp.read_text() != requirements.read_text():
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        pip = [directory / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", requirements], check=True)
        stamp.write_text(requirements.read_text())
    return directory / "bin"

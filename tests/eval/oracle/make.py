"""Make the fixtures anew: toy embeddings, and what the real heareval says of them.

    python tests/eval/oracle/make.py VENV [PIP_ARGS ...]

VENV is made if it is not there. Takes about ten minutes; `PIP_ARGS` can name an index with torch
for the CPU.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from toys import TOYS, write_toy

HERE = Path(__file__).parent


def main() -> None:
    """Write toy tasks, let heareval score them in its own environment, keep what it says."""
    home, *pip_args = sys.argv[1:]
    python = Path(home).absolute() / "bin" / "python"
    if not python.exists():
        install(Path(home), python, pip_args)
    shutil.rmtree(HERE / "tasks", ignore_errors=True)
    for name, toy in TOYS.items():
        write_toy(HERE / "tasks" / name, toy)
    # heareval rounds as it does on one thread of this machine; see about.json.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory() as scratch:
        ask = [python, HERE / "ask_heareval.py", HERE, scratch]
        subprocess.run(ask, env=environment, cwd=scratch, check=True)


def install(home: Path, python: Path, pip_args: list[str]) -> None:
    """Make heareval's environment."""
    venv.create(home, with_pip=True)
    pip = [python, "-m", "pip", "install", "--quiet", *pip_args]
    subprocess.run([*pip, "-r", HERE / "requirements.txt"], check=True)
    subprocess.run([*pip, "--no-deps", "heareval==2021.1.3"], check=True)


if __name__ == "__main__":
    main()

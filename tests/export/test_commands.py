"""Commands of `export` and `perf`: which there are, and that only the one that is called is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

import export.__main__
import perf.__main__

PROGRAMS = {"export": export.__main__, "perf": perf.__main__}


@pytest.mark.parametrize(
    ("program", "command"), [(name, command) for name, program in PROGRAMS.items() for command in program.COMMANDS]
)
def test_every_command_has_a_module_that_says_its_options(
    program: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        PROGRAMS[program].main([command, "--help"])
    assert end.value.code == 0
    assert f"usage: python -m {program} {command} [-h]" in capsys.readouterr().out


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_unknown_command_is_answered_with_those_that_there_are(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        PROGRAMS[program].main(["nonsense"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert all(f"'{command}'" in error for command in PROGRAMS[program].COMMANDS)


def test_help_loads_no_command() -> None:
    code = (
        "import sys, perf.__main__\n"
        "try: perf.__main__.main(['--help'])\n"
        "except SystemExit: print(sorted({name.split('.')[0] for name in sys.modules} & {'numpy', 'yaml', 'jinja2'}))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert finished.stdout.endswith("[]\n")

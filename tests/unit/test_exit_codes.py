"""What a command line ends with: one table of codes, and nothing that was typed is dropped in silence."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zkkrum import errors
from zkkrum.cli import COMMANDS, main
from zkkrum.errors import EXIT_CODES, ZkkrumError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "exit-codes.md"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def round_folder(here: Path) -> Path:
    assert run("simulate", "round", "-n", 5, "-d", 20, "--byzantine", 1).exit_code == 0
    return here / "round"


class TestTable:
    def test_every_error_has_a_code_of_the_table_and_none_says_that_a_proof_is_invalid(self) -> None:
        classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, ZkkrumError)]
        assert len(classes) >= 7
        for error in classes:
            assert error.exit_code in EXIT_CODES
            assert error.exit_code not in (0, errors.EXIT_INVALID)

    def test_the_reference_has_the_same_table(self) -> None:
        rows = re.findall(r"^\| (\d+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
        assert {int(code): meaning for code, meaning in rows} == EXIT_CODES

    @pytest.mark.parametrize("command", ["", *COMMANDS])
    def test_stands_in_every_help(self, command: str) -> None:
        result = run(*filter(None, [command]), "--help")
        assert result.exit_code == 0
        words = " ".join(result.output.split())
        for code, meaning in EXIT_CODES.items():
            assert f"{code} {meaning}" in words


class TestNotFound:
    @pytest.mark.parametrize(
        "command",
        ["verify", "inspect", "prove", "report", "estimate", "commit", "calibrate", "aggregate", "audit"],
    )
    def test_a_file_that_is_not_there_is_bad_input(self, command: str, here: Path) -> None:
        result = run(command, "nothing")
        assert result.exit_code == 3
        assert "'nothing' does not exist" in result.stderr

    def test_nor_as_an_option(self, round_folder: Path) -> None:
        assert run("verify", round_folder, "--round", "nothing").exit_code == 3


class TestNoTraceback:
    """Values nobody means are refused as such: none of them is a bug."""

    @pytest.mark.parametrize(
        "line",
        [
            "simulate -n -4",
            "simulate -n 0",
            "simulate -d -7",
            "simulate -d 0",
            "simulate --byzantine -1",
            "simulate --byzantine 99",
            "simulate --clip 0",
            "simulate --clip -1",
            "simulate --clip nan",
            "simulate --clip inf",
            "simulate -f -1",
            "simulate -m 0",
            "simulate --z 1/0",
            "simulate --z -1",
            "simulate --gamma x",
            "simulate --shard-gates 0",
            "simulate --shard-gates 10",
            "simulate --max-memory 0",
            "simulate --max-memory -5",
            "simulate --max-memory 100 --shard-gates 9000",
            "simulate --strength nan",
            "simulate --heterogeneity nan",
            "open -d 5 --client a",
            "open -d -5 --client a --client b --client c --clip 1",
            "open -d 5 --client a --client b --client c --clip 0",
            "open -d 5 --client a --client b --client c --clip nan",
            "estimate",
            "estimate -n -4 -d 5",
            "estimate -n 4 -d -5",
            "estimate -n 4 -d 5 --max-memory 0",
            "estimate -n 4 -d 5 --clip 0",
            "estimate -n 4",
            "experiment --hidden -3",
            "experiment --hidden 0",
            "experiment -n -1",
            "experiment -k -1",
            "experiment -k 99",
            "experiment --rounds -1",
            "experiment --rounds 0",
            "experiment --dirichlet 0",
            "experiment --dirichlet -1",
            "experiment --clip 0",
            "experiment --clip nan",
            "experiment --bits 3",
            "experiment --attack nothing",
            "evaluate -n -1",
            "evaluate -d 0",
            "evaluate --rounds 0",
            "evaluate --clip 0",
            "evaluate --bits 5",
            "evaluate --seed -1",
            "evaluate -n 2",
            "evaluate -m 0",
            "demo --rounds 0",
            "demo --rounds -3",
            "bench -n -1",
            "bench -d 0",
            "bench --quick -n 5",
            "onchain-demo -n -1",
            "onchain-demo -d 0",
            "onchain-demo --byzantine -1",
            "onchain-demo --table -n 5",
            "export",
            "export -n 5",
            "export -n -5 -d 4",
            "export -n 5 -d 0",
            "setup --points 0",
        ],
    )
    def test_refused(self, line: str, here: Path) -> None:
        result = run(*line.split())
        assert result.exit_code in (2, 3), (result.output, result.stderr, result.exception)
        assert not list(here.iterdir())


class TestNothingIsIgnored:
    @pytest.mark.parametrize(
        ("option", "value", "found"),
        [
            ("--bits", "8", "12"),
            ("--clip", "3.5", ""),
            ("-f", "0", "1"),
            ("-m", "2", "1"),
            ("--score", "all-pairs", "krum-2017"),
            ("--detection", "brackets", "mad"),
            ("--z", "4.5", "5"),
            ("--gamma", "1/3", "1/4"),
            ("--shard-gates", "9000", "chunk already, as 21"),
            ("--max-memory", "400", "chunk already, as 21"),
        ],
    )
    @pytest.mark.parametrize("command", ["prove", "estimate"])
    def test_terms_that_a_round_decides_otherwise(
        self, command: str, option: str, value: str, found: str, round_folder: Path
    ) -> None:
        result = run(command, round_folder, option, value)
        assert result.exit_code == 3
        assert "round.toml decides" in result.stderr
        assert found in result.stderr
        assert not (round_folder / "bundle").exists()

    def test_terms_that_agree_are_welcome(self, round_folder: Path) -> None:
        agreeing = ["--bits", 12, "-f", 1, "-m", 1, "--score", "krum-2017", "--z", "10/2", "--gamma", "0.25"]
        assert run("estimate", round_folder, *agreeing).exit_code == 0

    def test_a_round_and_a_shape(self, round_folder: Path) -> None:
        for option in ("-n", "-d"):
            result = run("estimate", round_folder, option, 7)
            assert result.exit_code == 2
            assert "ROUND decides these" in result.stderr

    def test_both_finishing_and_dropping(self, round_folder: Path) -> None:
        assert run("prove", round_folder, "--resume", "--restart").exit_code == 2

    def test_no_verify_of_a_round(self, round_folder: Path) -> None:
        result = run("report", round_folder, "--no-verify")
        assert result.exit_code == 2
        assert "only a BUNDLE is verified" in result.stderr

    @pytest.mark.parametrize("option", ["--commitments", "--round", "--aggregate", "--initial", "--final"])
    def test_what_only_bundles_and_runs_have_of_a_round(self, option: str, round_folder: Path) -> None:
        there = round_folder if option == "--commitments" else round_folder / "round.toml"
        result = run("report", round_folder, option, there)
        assert result.exit_code == 2
        assert f"{option}: this is a ROUND" in result.stderr

    def test_terms_beside_a_bundle_or_a_check(self, round_folder: Path) -> None:
        assert "--bits: the BUNDLE or the folder decides" in run("export", round_folder, "--bits", 8).stderr
        assert run("export", "--check", round_folder, "--bits", 8).exit_code == 2
        assert run("export", "--check", round_folder, "-o", "x").exit_code == 2

    @pytest.mark.parametrize(
        "line",
        [
            "simulate r -n 4 -d 5 --byzantine 1",
            "open r.toml -d 5 --clip 1 --client a --client b --client c --client d",
            "estimate -n 4 -d 5",
        ],
    )
    def test_that_another_rule_was_chosen_is_said(self, line: str, here: Path) -> None:
        words = "detection: brackets, since mad needs 5 clients and there are 4"
        result = run(*line.split())
        assert result.exit_code == 0
        assert words in result.stderr
        line = line.replace("r.toml", "s.toml").replace("simulate r", "simulate s")
        assert words not in run(*line.split(), "--detection", "brackets").stderr


class TestStreams:
    """Standard output may be any file or terminal of the last forty years."""

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
    def test_that_cannot_say_everything(self, encoding: str, tmp_path: Path) -> None:
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C", "COLUMNS": "80"}
        for line in ("--help", "simulate --help", "simulate ж -n 5 -d 9", "inspect ж"):
            done = subprocess.run(
                [sys.executable, "-m", "zkkrum", *line.split()],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                check=False,
            )
            assert done.returncode == (3 if line.startswith("inspect") else 0), done.stderr
            assert b"Traceback" not in done.stderr

    def test_interrupted_while_it_parses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("click.Context.invoke", interrupted)
        assert run("doctor").exit_code == 130
        monkeypatch.setattr("click.Group.parse_args", interrupted)
        assert run("doctor").exit_code == 130


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("verify nowhere 2>/dev/full", 3),
        ("verify nowhere 2>&-", 3),
        ("verify nowhere --json >/dev/full 2>/dev/null", 3),
        ("verify nowhere --json >&- 2>&-", 3),
        ("verify nowhere --nope 2>/dev/full", 2),
        ("verify nowhere --nope --json >/dev/full 2>/dev/null", 2),
        ("--help >/dev/full", 7),
        ("--help >&-", 0),
        ("estimate -n 4 -d 10 2>/dev/full", 0),
        ("estimate -n 4 -d 10 >/dev/full", 7),
        ("estimate -n 4 -d 10 >&-", 0),
    ],
)
def test_an_output_that_takes_nothing_is_no_refutation(line: str, code: int, tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m zkkrum {line}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr

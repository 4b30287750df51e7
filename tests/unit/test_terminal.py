"""What a command looks like: at 80 columns, in a pipe, as JSON; what is said where somebody errs or interrupts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from support.terminal import on_terminal
from zkkrum.cli import COMMANDS, GROUPS, UNFINISHED, Commands, main
from zkkrum.cli.console import Manner, listing, progress_bar, say, tell, wrapped
from zkkrum.errors import InputError, ToolFailedError

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"


def run(*words: object, **more: Any) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], **more)


class TestEightyColumns:
    """Nothing is wider than the terminal, no word is broken, and nothing is missing that a pipe gets."""

    @pytest.mark.parametrize("command", ["", *COMMANDS])
    def test_help(self, command: str, tmp_path: Path) -> None:
        result = run(*filter(None, [command]), "--help")
        assert [line for line in result.output.splitlines() if len(line) > 80] == []
        assert "..." not in result.output.replace("[ARGS]...", "").replace("[OPTIONS]...", "").replace("ROUNDS...", "")

    @pytest.mark.parametrize(
        "line",
        [
            "estimate -n 40 -d 1000000 --on-chain",
            "inspect {bundle}",
            "inspect nothing",
            "inspekt",
        ],
    )
    def test_a_terminal_says_what_a_pipe_says(self, line: str, tmp_path: Path) -> None:
        words: list[object] = [word.format(bundle=EXAMPLE / "bundle") for word in line.split()]
        lines, code = on_terminal(words, tmp_path)
        piped = run(*words)
        assert code == piped.exit_code
        assert [text for text in lines if len(text) > 80] == []
        assert " ".join(lines).split() == piped.stdout.split()

    def test_the_longest_words_stay_whole(self, tmp_path: Path) -> None:
        lines, _ = on_terminal(["inspect", EXAMPLE / "bundle"], tmp_path)
        hashes = [word for word in run("inspect", EXAMPLE / "bundle").stdout.split() if word.startswith("0x")]
        assert len(hashes) > 20
        assert [word for text in lines for word in text.split() if word.startswith("0x")] == hashes

    def test_evaluate_is_a_table_that_explains_its_heads(self, tmp_path: Path) -> None:
        words: list[object] = ["evaluate", "--rounds", 2, "-n", 12, "-d", 50, "--share", 0.25, "--heterogeneity", 0.25]
        words += ["--attack", "gaussian", "--attack", "sign-flip:accepted", "--accept", "selected"]
        lines, code = on_terminal(words, tmp_path)
        assert code == 0
        assert [text for text in lines if len(text) > 80] == []
        head = next(text for text in lines if text.startswith("attack")).split()
        assert {"k", "caught", "accepted", "honest", "rounds", "error"} <= set(head)
        for name in head[1:]:
            assert any(text.startswith(f"{name} ") for text in lines[-16:]), name
        assert "krum-2017/mad: n = 12, d = 50, f = 4, heterogeneity 0.25" in lines
        assert "…" not in "".join(lines)
        assert "| attack" in run(*words).stdout  # and the documents' Markdown in a pipe

    def test_wrapping(self) -> None:
        text = f"one two three {'x' * 30} four-five"
        assert wrapped(text, 12).splitlines() == ["one two", "  three", f"  {'x' * 30}", "  four-five"]
        assert wrapped(text, None) == text
        assert max(map(len, wrapped("word " * 100, 300).splitlines())) <= 100
        shown = listing("Title", {"name": "meaning " * 20, "other": "short"})
        assert max(map(len, shown.splitlines())) <= 78
        assert shown.startswith("\b\nTitle:\n  name  meaning")


class TestInspect:
    def test_a_line_is_a_name_and_a_value(self) -> None:
        lines = run("inspect", EXAMPLE / "bundle").stdout.splitlines()
        manifest = json.loads((EXAMPLE / "bundle" / "manifest.json").read_text())
        said = dict(
            re.split(r"\s{1,}(?=\S)", line, maxsplit=1) for line in lines if line.startswith(("flag", "agg", "d "))
        )
        assert said["flagged"] == ", ".join(map(repr, manifest["verdict"]["flagged"]))
        assert said["aggregate"] == manifest["aggregate"]
        assert said["d"] == "650"
        for entry in manifest["commitments"]:
            assert [line for line in lines if f"[{entry['client']!r}]" in line and entry["commitment"] in line]
        assert all(len(line.split()) >= 2 for line in lines)


class TestCommands:
    def test_each_stands_under_who_runs_it(self) -> None:
        text = run("--help").output
        sections = [*(f"\n{title}:\n" for title in GROUPS), "\n  Exit codes:"]
        places = [text.index(section) for section in sections]
        assert places == sorted(places)
        for names, start, end in zip(GROUPS.values(), places, places[1:], strict=False):
            for name in names:
                assert f"\n  {name} " in text[start:end]
        assert sum(map(len, GROUPS.values())) == len(COMMANDS)

    @pytest.mark.parametrize(
        ("typed", "near"), [("inspekt", "inspect"), ("verfy", "verify"), ("export-chain", "export"), ("audti", "audit")]
    )
    def test_a_near_one_is_named(self, typed: str, near: str) -> None:
        result = run(typed)
        assert result.exit_code == 2
        assert f"No such command {typed!r}. Did you mean" in result.stderr
        assert near in result.stderr

    def test_nothing_is_guessed_where_nothing_is_near(self) -> None:
        assert "Did you mean" not in run("xyzzy").stderr


class TestJson:
    def test_an_answer_names_its_schema(self, tmp_path: Path) -> None:
        lines: dict[str, list[object]] = {
            "estimate": ["-n", 10, "-d", 100],
            "simulate": [tmp_path / "r", "-n", 5, "-d", 20, "--byzantine", 1],
            "inspect": [EXAMPLE / "bundle"],
            "evaluate": ["--rounds", 1, "-n", 5, "-d", 9, "--share", 0, "--heterogeneity", 0],
        }
        for command, words in lines.items():
            result = run(command, *words, "--json")
            assert result.exit_code == 0, result.output
            found = json.loads(result.stdout)
            assert next(iter(found)) == "schema"
            assert found["schema"] == f"zkkrum-{command}-1"

    @pytest.mark.parametrize(
        ("words", "code", "kind"),
        [
            (["verify", "nothing"], 3, "InputError"),
            (["inspect", "."], 3, "InputError"),
            (["estimate"], 2, "UsageError"),
            (["estimate", "-n", "x"], 2, "BadParameter"),
            (["inspekt"], 2, "UsageError"),
            (["verify", "--no-such-option"], 2, "NoSuchOption"),
        ],
    )
    def test_so_does_an_error(self, words: list[str], code: int, kind: str, tmp_path: Path) -> None:
        result = run(*words, "--json")
        assert result.exit_code == code
        found = json.loads(result.stdout)
        assert list(found) == ["schema", "error", "exit_code"]
        assert found["schema"] == "zkkrum-error-1"
        assert found["exit_code"] == code
        assert found["error"]["kind"] == kind
        assert found["error"]["message"]
        assert set(found["error"]) == {"kind", "message", "hint"}
        assert result.stderr  # and people read it there
        assert not run(*words).stdout

    def test_and_a_bug(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("zkkrum.cli.prove.forecasts.estimate", broken)
        result = run("estimate", "-n", 5, "-d", 5, "--json")
        assert json.loads(result.stdout)["error"]["kind"] == "ZeroDivisionError"
        assert result.exit_code == 70


class TestManner:
    @pytest.fixture
    def probe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        @click.command()
        def probe() -> None:
            """Say and do something."""
            say("a notice")
            with progress_bar() as progress:
                progress("stage", 1, 2)
                progress("stage", 2, 2)
            tell("an answer")
            raise ToolFailedError("it failed", "look there")

        real = Commands.get_command
        monkeypatch.setattr(
            Commands, "get_command", lambda self, ctx, name: probe if name == "doctor" else real(self, ctx, name)
        )

    @pytest.mark.usefixtures("probe")
    def test_plain_quiet_and_verbose(self) -> None:
        plain, quiet, verbose = run("doctor"), run("-q", "doctor"), run("-v", "doctor")
        error = "zkkrum: it failed\n  -> look there\n"
        assert plain.stderr == "a notice\n" + error  # no bar where there is no terminal
        assert quiet.stderr == error
        assert re.search(r"a notice\n +[\d.]+ s  stage 1/2\n +[\d.]+ s  stage 2/2\n", verbose.stderr)
        assert "Traceback" in verbose.stderr
        assert {r.stdout for r in (plain, quiet, verbose)} == {"an answer\n"}
        assert {r.exit_code for r in (plain, quiet, verbose)} == {6}

    def test_not_both(self) -> None:
        assert run("-q", "-v", "doctor").exit_code == 2

    def test_a_bar_goes_to_the_end(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setattr("zkkrum.cli.console.manner", Manner)
        with progress_bar() as progress:
            for done in range(4):
                progress("rounds", done, 3)
                time.sleep(0.15)
        assert "3/3" in capsys.readouterr().err

    def test_interrupted(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        for command, target, words in (
            ("prove", "zkkrum.cli.prove.Toolchain.find", ["prove", str(tmp_path)]),
            ("setup", "zkkrum.cli.tools.Toolchain.find", ["setup"]),
            ("verify", "zkkrum.cli.verify.Toolchain.find", ["verify", str(tmp_path)]),
        ):
            monkeypatch.setattr(target, interrupted)
            result = run(*words)
            assert result.exit_code == 130
            hint = UNFINISHED.get(command)
            assert result.stderr == "zkkrum: interrupted\n" + (f"  -> {hint}\n" if hint else "")
        assert "--resume" in UNFINISHED["prove"]


class TestFolders:
    """A folder with something in it is refused before minutes of work, and stays as it is."""

    @pytest.mark.parametrize("line", ["demo {}", "demo {} --rounds 2", "bench --quick -o {}", "simulate {}"])
    def test_in_use(self, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def never(*_: object, **__: object) -> None:
            raise AssertionError("work began")

        for work in ("demo.digits_round", "demo.Toolchain.find", "bench.Toolchain.find"):
            monkeypatch.setattr(f"zkkrum.cli.{work}", never)
        (tmp_path / "mine").write_text("precious")
        result = run(*line.format(tmp_path).split())
        assert result.exit_code == 3
        assert "already exists" in result.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]

    def test_the_script_removes_nothing(self) -> None:
        text = (Path(__file__).parents[2] / "scripts" / "demo.sh").read_text()
        assert not re.search(r"\brm\b", text)


def test_what_a_stranger_writes_does_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    tell("a\x1b[2Jb\nc\u202ed")
    say("a\x1b[2Jb")
    found = capsys.readouterr()
    assert found.out == "a\\x1b[2Jb\\nc\\u202ed\n"
    assert found.err == "a\\x1b[2Jb\n"


def test_a_pipe_gets_whole_lines(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "zkkrum", "estimate", "-n", "40", "-d", "1000000"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert "one shard of at most" in done.stdout
    assert len([line for line in done.stdout.splitlines() if len(line) > 80]) >= 1
    assert not done.stderr


def test_errors_of_other_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, code in ((MemoryError(), 7), (OSError(28, "No space left on device"), 7), (InputError("x"), 3)):

        def broken(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr("zkkrum.cli.prove.forecasts.estimate", broken)
        assert run("estimate", "-n", 5, "-d", 5).exit_code == code

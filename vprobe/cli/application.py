"""The command line as click sees it: finds the verbs, each in a file of its own, and turns errors into exit codes."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import traceback
from types import FrameType
from typing import Any

import click

from vprobe import __version__
from vprobe.errors import ExitCode, RunError, UsageError, VprobeError

# Verb -> its one-line help. The module vprobe.cli.VERB holds the click command of the same name, `command`.
# Listed here so that --help loads none of them.
VERBS = {
    "probe": "Say what this machine is and whether it can virtualize.",
    "check": "Check single facts (kvm, vtx, nested, …) with an exit code, for scripts.",
    "bench": "Measure workloads in every environment, side by side.",
    "compare": "Compare the arms of a run, or two runs.",
    "gate": "Judge a run by rules, with an exit code, for CI.",
    "report": "Write one HTML file that a reader can check.",
    "envs": "List the environments and why each can or cannot run here.",
    "suites": "List the workloads.",
    "guest": "Fetch a kernel for Linux guests, when told to.",
}


class Verbs(click.Group):
    """Loads a verb's module when the verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"vprobe.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="vprobe")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def vprobe(debug: bool) -> None:
    """What can this machine virtualize, and what does each layer cost?"""
    del debug  # read from the command line by main(), which must know it before anything is parsed


class Terminated(BaseException):
    """SIGTERM arrived: unwind, so that everything that was started is ended."""


def _terminate(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise Terminated


def _fail(error: VprobeError, *, as_json: bool) -> int:
    """Say an expected error in one line (or as one JSON document) and return its exit code."""
    if as_json:
        import msgspec  # noqa: PLC0415 - only errors of --json need it here

        document: dict[str, Any] = {
            "schema": "vprobe.error/1",
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
        }
        with contextlib.suppress(OSError):  # standard output may be what failed; the line below is said in any case
            sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
            sys.stdout.flush()
    hint = f" ({error.hint})" if error.hint else ""
    line = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in f"{error.message}{hint}")
    sys.stderr.write(f"vprobe: {line}\n")
    return int(error.exit_code)


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    debug = "--debug" in arguments
    arguments = [word for word in arguments if word != "--debug"]
    as_json = "--json" in arguments
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        code = vprobe.main(arguments, prog_name="vprobe", standalone_mode=False)
        return code if isinstance(code, int) else int(ExitCode.PASS)
    except VprobeError as error:
        if debug:
            traceback.print_exc()
        return _fail(error, as_json=as_json)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return int(ExitCode.USAGE)
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "vprobe"
        return _fail(UsageError(error.format_message(), f"see '{command} --help'"), as_json=as_json)
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("vprobe: interrupted\n")
        return int(ExitCode.INTERRUPTED)
    except Terminated:
        sys.stderr.write("vprobe: terminated\n")
        return int(ExitCode.TERMINATED)
    except BrokenPipeError:
        # The reader of our output went away (| head): not an error, and nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.PASS)
    except OSError as error:
        if debug:
            traceback.print_exc()
        what = f"{error.filename}: " if error.filename else ""
        return _fail(RunError(f"{what}{error.strerror or error}", "make room or name another place"), as_json=as_json)
    except Exception as error:
        if debug:
            traceback.print_exc()
        message = f"internal error: {type(error).__name__}: {error}".splitlines()[0]
        _fail(VprobeError(message, "run again with --debug and report it"), as_json=as_json)
        return int(ExitCode.INTERNAL)
    finally:
        signal.signal(signal.SIGTERM, previous)

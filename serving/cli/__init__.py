"""The command line `kairos`: one file a command, imported only when it is the one that was asked for."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from engine.errors import InvalidInput, KairosError

COMMANDS: Final = {
    "demo": "Start Kairos and watch simulated shoppers, decisions and reasons.",
    "up": "Start Kairos here, or on the Ray cluster of this machine.",
    "validate": "Check a campaign book: every mistake at once, with its line.",
    "dry-run": "Which recent decisions a book would change, before it is in force.",
    "simulate": "Walk one persona through a book, step by step.",
    "catalogue": "The shop's products: prices, margins, stock.",
    "explain": "Tell why a decision came out as it did.",
    "replay": "Send a file of events to a running Kairos.",
    "export": "Decisions and signals as Parquet, from archive and store.",
    "train": "Fit the conversion model on a table, or have the running Kairos train.",
    "backtest": "A table in time order: the model that learns by itself beside a frozen one.",
    "evaluate": "Value a policy from the log of another, or refuse to.",
    "sequential": "Read a test look by look, and when it would have stopped.",
    "srm": "Test whether users are split between arms as planned.",
    "tier1": "Who is asked for suggestions, how that goes, how far the tiers agree.",
    "rollout": "What is on its way to visitors: show, start, promote, roll back, pause.",
    "cohorts": "Labels and traits of known visitors from a CSV file.",
    "experiments": "What experiments show so far, with intervals that hold at every look.",
    "calibrate": "Thresholds of a segment from recorded sessions and their outcomes.",
    "webhooks": "How webhooks stand, their dead letters, and sending them anew.",
    "plan": "What a shop's traffic needs: nodes, memory, archive, cost.",
    "keys": "Issue, list and revoke API keys.",
    "doctor": "Name each thing that is wrong on this machine, and its mend.",
}
FAILED, USAGE, INTERRUPTED = 1, 2, 130
DEBUG: Final = "--debug"
JSON: Final = "--json"


class Commands(TyperGroup):
    """Knows each command by name and one line; what it needs is imported when it runs."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=line) for name, line in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command itself in the place of its one line."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else None, rest


def load(name: str) -> Any:
    """Import a command: the function of its module's name, or the module's `app` where it has sub-commands."""
    word = name.replace("-", "_")
    module = import_module(f"serving.cli.{word}")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False)
        app.command(name)(getattr(module, word))
    return typer.main.get_command(app)


app = typer.Typer(
    name="kairos", cls=Commands, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"kairos {version('kairos')}")
        except PackageNotFoundError:
            typer.echo("kairos (not installed)")
        raise typer.Exit


@app.callback()
def kairos(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="The version, and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show where an error came from; may stand anywhere.")] = False,
) -> None:
    """Real-time personalisation: what to show each visitor now, why, and whether it was right."""


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code: 0 done, 1 failed, 2 wrong input or usage, 130 interrupted."""
    given = list(sys.argv[1:] if args is None else args)
    debug = DEBUG in given
    words = [word for word in given if word != DEBUG]
    try:
        done = typer.main.get_command(app).main(args=words, prog_name="kairos", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has stopped reading; without this Python complains once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (KeyboardInterrupt, typer.Abort):
        say_error("interrupted")
        return INTERRUPTED
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else FAILED
    except Exception as error:
        if debug:
            raise
        if JSON in words:
            say_as_json(error)
        return tell(error)
    return done if isinstance(done, int) else 0


def tell(error: Exception) -> int:
    """Say an error in one clear line, or in one for each finding; returns the exit code."""
    if isinstance(error, KairosError):
        for line in error.message.splitlines() or [""]:
            say_error(f"{line} ({error.code})")
        return USAGE if isinstance(error, InvalidInput) else FAILED
    usage = getattr(error, "format_message", None)
    if usage is not None:  # typer's own errors; their class is private to it
        _usage(error, usage())
        return USAGE
    code, message = _unforeseen(error)
    say_error(f"{message} ({code})")
    return FAILED


def say_as_json(error: Exception) -> None:
    """The one document that whoever asked for JSON reads on stdout; stderr has the lines for people all the same."""
    usage = getattr(error, "format_message", None)
    if isinstance(error, KairosError):
        code, message = error.code, error.message
    elif usage is not None:
        code, message = "usage", " ".join(str(usage()).split())
    else:
        code, message = _unforeseen(error)
    typer.echo(json.dumps({"error": {"code": code, "message": message}}, ensure_ascii=False))


def _unforeseen(error: Exception) -> tuple[str, str]:
    if isinstance(error, ModuleNotFoundError):
        return "not_installed", f"{error}: the installation is not complete"
    return "unexpected", f"{type(error).__name__}: {' '.join(str(error).split())}; {DEBUG} shows where"


def _usage(error: Exception, message: str) -> None:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(message, err=True)
        return
    where = context.command_path if context is not None else "kairos"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    say_error(f"{' '.join(lines).rstrip('.')}; see `{where} --help` (usage)")


def say_error(text: str) -> None:
    """One line on stderr; red only where a person sees it."""
    start = "error:"
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        start = typer.style(start, fg=typer.colors.RED, bold=True)
    typer.echo(f"{start} {text}", err=True, color=True if sys.stderr.isatty() else None)

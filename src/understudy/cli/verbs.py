"""The group of verbs: a mistyped one is answered with the right one."""

from __future__ import annotations

import difflib
import inspect
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from understudy.cli.failures import InterruptedRunError
from understudy.errors import InputError

OTHER_WORDS = {
    "run": ("train", "distill", "start", "fit", "resume", "launch", "execute", "go"),
    "check": ("validate", "verify", "lint", "doctor", "diagnose", "test", "dry-run"),
    "record": ("cache", "precompute", "dump", "teach"),
    "compress": ("shrink", "optimize", "prune", "quantize", "auto", "squeeze"),
    "init": ("new", "create", "setup", "wizard"),
    "recipes": ("recipe", "examples", "presets", "templates", "schema", "copy"),
    "layers": ("layer", "summary", "modules", "inspect", "model"),
    "methods": ("method", "losses", "loss", "objectives", "kinds"),
    "measure": ("benchmark", "bench", "profile", "evaluate", "eval", "latency", "cost", "flops", "macs"),
    "recommend": ("suggest", "advise", "student", "students", "architectures"),
    "transferability": ("transfer", "rank", "source", "sources", "logme", "probe"),
    "report": ("show", "results", "compare", "table", "html", "view"),
    "recording": ("recordings", "recorded", "answers", "manifest"),
    "write": ("generate", "continue", "complete", "sample", "chat", "texts"),
    "predict": ("classify", "infer", "inference", "ask", "answer"),
    "export": ("convert", "onnx", "openvino", "executorch", "save-as"),
    "deploy": ("pick", "choose", "best", "fastest", "pareto"),
    "serve": ("server", "http", "api", "host"),
    "demo": ("tour", "quickstart", "try", "example"),
    "list": ("ls", "show", "all"),
    "copy": ("cp", "get", "fetch", "download", "save"),
}
"""What people may type who mean one of our verbs."""


class Verbs(TyperGroup):
    """A group that knows what was meant."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb, or end with the one that was meant."""
        typed = args[0]
        if self.get_command(ctx, typed) is None and not typed.startswith("-") and not ctx.resilient_parsing:
            raise InputError(self._meant(typed, args[1:], ctx))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; Ctrl-C becomes an error of ours."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise InterruptedRunError("\nInterrupted.") from error

    def _meant(self, typed: str, rest: list[str], ctx: Any) -> str:
        program = ctx.command_path
        if "run" in self.commands and typed.endswith((".yaml", ".yml")) and Path(typed).is_file():
            return f"{typed!r} is a recipe, not a verb. Run it with: {program} run {' '.join([typed, *rest])}"
        word = typed.lower().replace("_", "-")
        known = [name for name, command in self.commands.items() if not command.hidden]
        meant = [name for name in known if word == name or word in OTHER_WORDS.get(name, ())]
        meant += [name for name in difflib.get_close_matches(word, known, n=2, cutoff=0.5) if name not in meant]
        meant += [name for name in known if len(word) > 1 and name.startswith(word) and name not in meant]
        if meant:
            tail = f" {' '.join(rest)}" if rest else ""
            other = f" (or {' or '.join(map(repr, meant[1:]))})" if meant[1:] else ""
            return f"There is no verb {typed!r}. Did you mean: {program} {meant[0]}{tail}{other}"
        return f"There is no verb {typed!r}. The verbs are: {', '.join(known)}"


def paragraphs(docstring: str | None) -> str:
    """A docstring as help text: one line for each paragraph, which the terminal's width then breaks."""
    blocks = inspect.cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(" ".join(block.split()) for block in blocks)


def group(help_text: str) -> typer.Typer:
    """A new group of verbs, with its help."""
    return typer.Typer(
        cls=Verbs,
        help=help_text,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

"""Confined code: one function of a source text, run in a killable process without imports, files or a way to
the interpreter.

Three fences, each of which would do against code that is merely wrong:

1. `check` reads the source's syntax tree. Statements, names and attributes are closed lists, so there is no
   import, no class, no name or attribute that begins with an underscore, and no `format` of texts.
2. The function sees the built-ins of `BUILTINS` and `math`, and arguments that came as JSON.
3. The process may open nothing (its limit of open files is what it has open, of a file's size 0), an audit
   hook refuses whatever reaches for the system while the function runs, and `killable` bounds its address
   space and ends it at its deadline, whatever it does.

Whose the code is, the caller decides: a source never comes out of data. Run as
`python -m mmreward.isolation.confined FD BYTES` by `killable.Killable`.

Jobs and answers:
    {"source": text, "name": of the function, "arguments": [...]}    {"value": what it returned}, as JSON
                                                                     {"wrong": why there is none}
"""

import ast
import builtins
import json
import math
import os
import resource
import sys
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from .killable import answer_jobs

LONGEST = 50_000
"""Characters of a source."""
FILE = "reward code"
"""Name under which confined code is compiled."""
LARGEST = 1 << 22
"""Characters of what a function returns, as JSON."""
# fmt: off
BUILTINS = (
    "abs", "all", "any", "bool", "dict", "divmod", "enumerate", "filter", "float", "frozenset", "int",
    "isinstance", "len", "list", "map", "max", "min", "pow", "range", "reversed", "round", "set", "slice",
    "sorted", "str", "sum", "tuple", "zip", "ArithmeticError", "Exception", "IndexError", "KeyError",
    "TypeError", "ValueError", "ZeroDivisionError",
)
METHODS = (
    "add", "append", "clear", "copy", "count", "difference", "discard", "endswith", "extend", "get", "index",
    "insert", "intersection", "isdigit", "issubset", "issuperset", "items", "join", "keys", "lower", "pop",
    "remove", "replace", "reverse", "setdefault", "sort", "split", "splitlines", "startswith", "strip",
    "title", "union", "update", "upper", "values",
)
NODES = (
    ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AugAssign, ast.AnnAssign,
    ast.For, ast.While, ast.If, ast.Raise, ast.Try, ast.ExceptHandler, ast.Assert, ast.Expr, ast.Pass,
    ast.Break, ast.Continue, ast.BoolOp, ast.NamedExpr, ast.BinOp, ast.UnaryOp, ast.Lambda, ast.IfExp,
    ast.Dict, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.comprehension,
    ast.Compare, ast.Call, ast.keyword, ast.JoinedStr, ast.FormattedValue, ast.Constant, ast.Attribute,
    ast.Subscript, ast.Starred, ast.Name, ast.List, ast.Tuple, ast.Slice, ast.expr_context, ast.boolop,
    ast.operator, ast.unaryop, ast.cmpop, ast.Nonlocal,
)
# fmt: on
MATH = {name: value for name, value in vars(math).items() if not name.startswith("_")}
NAMESPACE = {name: getattr(builtins, name) for name in BUILTINS}


def check(source: str, name: str, arguments: int) -> None:
    """Refuse a source that could do more than compute.

    Args:
        source: Python.
        name: of the function that has to be there.
        arguments: that it takes.

    Raises:
        ValueError: with the line, what stands there, and what to do.
    """
    if len(source) > LONGEST:
        raise ValueError(f"the code has {len(source)} characters; {LONGEST} are read")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        raise ValueError(f"{_line(line)}it is no Python: {getattr(error, 'msg', error)}") from None
    for node in ast.walk(tree):
        if problem := _problem(node):
            raise ValueError(f"{_line(getattr(node, 'lineno', None))}{problem}")
    found = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == name]
    if not found:
        raise ValueError(f"there is no function {name!r}: def {name}(steps, task): ...")
    given = found[-1].args
    if given.vararg or given.kwarg or given.kwonlyargs or len(given.posonlyargs + given.args) != arguments:
        raise ValueError(f"{_line(found[-1].lineno)}{name} takes {arguments} arguments, by their place")


def _line(number: int | None) -> str:
    return f"line {number}: " if number else ""


def _problem(node: ast.AST) -> str:
    """Why a node is refused; "" for one that is not."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return "imports are refused; math is there without one"
    if not isinstance(node, NODES):
        return f"{type(node).__name__} is refused: functions, loops and expressions alone are run"
    if isinstance(node, ast.FunctionDef) and node.decorator_list:
        return "decorators are refused"
    if isinstance(node, ast.Attribute) and not (node.attr in METHODS or node.attr in MATH):
        return f"the attribute {node.attr!r} is refused: methods of texts, lists, dicts and sets, and math's"
    names = [getattr(node, field, None) for field in ("id", "arg", "name")]
    hidden = [one for one in names if isinstance(one, str) and one.startswith("_") and one != "_"]
    return f"the name {hidden[0]!r} is refused: it begins with an underscore" if hidden else ""


# --- the worker's side ------------------------------------------------------------------------------


class Outside(Exception):  # noqa: N818 - reads as what it says at the raise
    """Confined code reached for the system."""


class _Running:
    """True while confined code runs; the audit hook looks at it."""

    now = False


def _audit(event: str, _: Any) -> None:
    if _Running.now and event != "exec":  # ours, of the module's own statements
        raise Outside(event)


@lru_cache(8)
def _compiled(source: str, name: str, arguments: int) -> Any:
    check(source, name, arguments)
    return compile(source, FILE, "exec")


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Reply to one job; see the top of this file."""
    close_doors()
    code = _compiled(job["source"], job["name"], len(job["arguments"]))
    space: dict[str, Any] = {"__builtins__": dict(NAMESPACE), "math": SimpleNamespace(**MATH)}
    execute: Callable[..., Any] = exec
    try:
        _Running.now = True
        execute(code, space)
        value = space[job["name"]](*job["arguments"])
    except RecursionError:
        return {"wrong": "it calls itself too deeply"}
    except MemoryError:
        return {"wrong": "it takes more memory than it may"}
    except Outside as error:
        return {"wrong": f"it reached for the system ({error})"}
    except Exception as error:
        _Running.now = False
        return {"wrong": f"{_place(error)}{type(error).__name__}: {str(error)[:200]}"}
    finally:
        _Running.now = False
    return _told(value)


def _place(error: Exception) -> str:
    """The last line of the code itself that an exception came through."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return _line(line)


def _told(value: Any) -> dict[str, Any]:
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return {"wrong": f"it returned what is no JSON, or no finite number: {str(error)[:200]}"}
    return {"value": value} if len(text) <= LARGEST else {"wrong": f"it returned {len(text)} characters"}


@lru_cache(1)
def close_doors() -> None:
    """Nothing more can be opened by this process, or written; at the first job, for its greeting reads the
    package's version."""
    free = os.dup(int(sys.argv[1]))  # the lowest number that the next file would get
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.addaudithook(_audit)


if __name__ == "__main__":
    answer_jobs(run, lambda: _told(0.0))  # which loads what json loads late

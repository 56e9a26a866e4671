"""JMESPath, within bounds: an expression is checked before it is used, and an answer cannot make it run for long."""

from collections.abc import Iterator
from typing import Any, Final, cast

from jmespath.exceptions import ArityError, JMESPathError, JMESPathTypeError, ParseError
from jmespath.functions import Functions
from jmespath.parser import ParsedResult, Parser
from jmespath.visitor import TreeInterpreter

from relay.errors import UpstreamError, UsageError
from relay.hints import unknown

__all__ = ["EXPRESSION_LIMIT", "STEPS", "Evaluation", "Expression"]

EXPRESSION_LIMIT: Final = 1_000
"""The most characters of an expression."""

STEPS: Final = 1_000_000
"""The most steps that reading one answer takes: nodes visited, and values that are built or handed to a function."""

_FUNCTIONS: Final[dict[str, Any]] = Functions.FUNCTION_TABLE
_BUILDS: Final = frozenset({"multi_select_list", "multi_select_dict"})
_GATHERS: Final = frozenset({"flatten", "projection", "value_projection", "filter_projection", "slice"})
_CHARACTERS: Final = 64
"""How many characters of a text are a step."""


class Expression:
    """One JMESPath expression, compiled. Raises UsageError for what is none, in words that follow a key's name.

    *way* is the names that it goes down, where it does nothing else: none for `@`.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._tree = _compiled(text).parsed
        self.way: tuple[str, ...] | None = _way(self._tree)

    def find(self, document: object, evaluation: "Evaluation") -> object:
        """What there is in *document*, None for nothing.

        Raises ValueError if the expression does not fit the answer, such as a function whose argument has another type.
        Raises UpstreamError (malformed) if the *evaluation* needs too many steps.
        """
        if self.way is not None:
            evaluation.take(max(1, len(self.way)))
            return _down(document, self.way)
        try:
            return cast(object, evaluation.visit(cast(Any, self._tree), document))
        except JMESPathTypeError as error:
            problem = f"{error.function_name}() does not take {_NAMES.get(str(error.actual_type), 'such a value')}"
        except RecursionError:
            problem = "it nests too deep"
        except (JMESPathError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError):
            problem = "it does not fit what was sent"
        raise ValueError(problem)


class Evaluation(TreeInterpreter):
    """The reading of one answer: all expressions applied to it share *steps*."""

    def __init__(self, steps: int = STEPS) -> None:
        super().__init__()
        self._left = steps
        self._known = Functions()

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        """See `jmespath.visitor.Visitor`."""
        self.take(1)
        found = super().visit(node, *args, **kwargs)
        if node["type"] in _BUILDS:
            self._take_all(found)
        elif node["type"] in _GATHERS and found is not None:
            self.take(len(found))
        return found

    def visit_function_expression(self, node: Any, value: Any) -> Any:
        """See `jmespath.visitor.TreeInterpreter`; what a function is handed counts, as it may write it out anew."""
        found = [self.visit(child, value) for child in node["children"]]
        for argument in found:
            self._take_all(argument)
        return self._known.call_function(node["value"], found)

    def take(self, steps: int) -> None:
        """Count so many *steps*. Raises UpstreamError (malformed) where that is too many."""
        self._left -= steps
        if self._left < 0:
            raise UpstreamError("malformed", "the answer takes too many steps to read; write simpler expressions")

    def _take_all(self, value: object) -> None:
        # A value may hold the same part many times over, so its size in memory says nothing of how long it is.
        waiting = [value]
        while waiting:
            whole = waiting.pop()
            self.take(1)
            if isinstance(whole, str):
                self.take(len(whole) // _CHARACTERS)
            elif isinstance(whole, list):
                waiting.extend(cast("list[object]", whole))
            elif isinstance(whole, dict):
                waiting.extend(cast("dict[str, object]", whole).values())


def _compiled(text: str) -> ParsedResult:
    if len(text) > EXPRESSION_LIMIT:
        raise UsageError(f"is over the limit of {EXPRESSION_LIMIT:,} characters")
    try:
        parsed = Parser().parse(text)
        for name, given in _calls(parsed.parsed):
            _check_call(name, given)
    except ArityError as error:
        problem = str(error)
    except ParseError as error:
        problem = f"it breaks off at character {error.lex_position + 1}"
        if getattr(error, "token_value", None):
            problem = f"{error.token_value!r} at character {error.lex_position + 1} is not expected"
    except RecursionError:
        problem = "it nests too deep"
    except ValueError:
        problem = "it cannot be read"
    else:
        return parsed
    raise UsageError(f"is no JMESPath expression: {problem}")


def _way(tree: Any) -> tuple[str, ...] | None:
    """The names that *tree* goes down, None where it does anything else."""
    match tree:
        case {"type": "current"}:
            return ()
        case {"type": "field", "value": str(name)}:
            return (name,)
        case {"type": "subexpression"}:
            ways = [_way(child) for child in tree["children"]]
            return None if None in ways else tuple(name for way in ways for name in way or ())
        case _:
            return None


def _down(document: object, way: tuple[str, ...]) -> object:
    """What lies at the end of *way*. Most expressions are no more, and the interpreter takes ten times as long."""
    for name in way:
        if not isinstance(document, dict):
            return None
        document = cast("dict[str, object]", document).get(name)
    return document


def _check_call(name: str, given: int) -> None:
    if name not in _FUNCTIONS:
        raise UsageError(f"is no JMESPath expression: there is no function {name!r}; {unknown(name, _FUNCTIONS)}")
    signature = _FUNCTIONS[name]["signature"]
    variadic = bool(signature and signature[-1].get("variadic"))
    if given < len(signature) or (given > len(signature) and not variadic):
        raise UsageError(f"is no JMESPath expression: {name}() takes {_counted(len(signature))}, not {given}")


def _calls(tree: Any) -> Iterator[tuple[str, int]]:
    """The functions that an expression calls, each with how many arguments."""
    waiting: list[Any] = [tree]
    while waiting:
        if not isinstance(found := waiting.pop(), dict):
            continue
        node = cast("dict[str, Any]", found)
        children: list[Any] = node.get("children", [])
        if node["type"] == "function_expression":
            yield str(node["value"]), len(children)
        waiting.extend(children)


def _counted(arguments: int) -> str:
    return "1 argument" if arguments == 1 else f"{arguments} arguments"


_NAMES: Final = {
    **dict.fromkeys(("null", "NoneType"), "nothing"),
    **dict.fromkeys(("array", "list"), "a list"),
    **dict.fromkeys(("object", "dict"), "an object"),
    **dict.fromkeys(("string", "str"), "a text"),
    **dict.fromkeys(("number", "int", "float"), "a number"),
    **dict.fromkeys(("boolean", "bool"), "true or false"),
}
"""What JMESPath, or Python, calls a type, and what messages call it."""

"""Small faults planted into a module, one at a time, over its syntax tree.

Left alone is what no test of behaviour can see: annotations, docstrings, decorators, what is only
imported for types, and the wording of messages.
"""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
WORDING = {"message", "purpose"}
"""Variables that hold texts for people."""


class Mutant(NamedTuple):
    """One fault."""

    module: str
    line: int
    what: str
    """The statement before and after, for the list of survivors."""
    source: str
    """The whole module with the fault in it."""


def mutants(module: str, source: str) -> Iterator[Mutant]:
    """Yield every fault for one module's source."""
    tree = ast.parse(source)
    places = list(_places(tree))
    for number, (node, _) in enumerate(places):
        for variant in range(len(list(_variants(node)))):
            changed = copy.deepcopy(tree)
            target, statement = list(_places(changed))[number]
            before = ast.unparse(statement).partition("\n")[0]
            list(_variants(target))[variant]()
            after = ast.unparse(ast.fix_missing_locations(statement)).partition("\n")[0]
            line = getattr(node, "lineno", 0)
            yield Mutant(module, line, f"{before} -> {after}", ast.unparse(changed))


def _places(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Yield the nodes to change, each with its statement, in a fixed order."""
    yield from _within(tree, tree)


def _within(node: ast.AST, statement: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_params"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or _left_alone(child):
                continue
            inner = child if isinstance(child, ast.stmt) else statement
            yield child, inner
            yield from _within(child, inner)


def _left_alone(node: ast.AST) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.keyword(arg="purpose"):
            return True
        case ast.Expr(value=ast.Constant(value=str())):  # a docstring
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name in WORDING
    return _tells(node)


def _tells(node: ast.AST) -> bool:
    """Say whether it raises with a text of its own, of which only the type can be tested."""
    match node:
        case ast.Raise(exc=ast.Call(args=[ast.Constant() | ast.JoinedStr(), *_])):
            return True
    return False


def _variants(node: ast.AST) -> Iterator[Callable[[], None]]:
    """Yield functions that change a node in place."""
    if isinstance(node, ast.stmt):
        yield from _statements(node)
    elif isinstance(node, ast.Constant):
        yield from _constants(node)
    else:
        yield from _expressions(node)


def _statements(node: ast.stmt) -> Iterator[Callable[[], None]]:
    match node:
        case ast.If() | ast.While():
            yield _setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
        case ast.AugAssign() if type(node.op) in ARITHMETIC:
            yield _setattr(node, "op", ARITHMETIC[type(node.op)]())
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.Continue():
            yield _becoming_pass(node)
        case ast.Return(value=ast.Constant()):
            pass  # None for "" or False is no fault; the constant itself is changed as well
        case ast.Return(value=ast.expr()):
            yield _setattr(node, "value", ast.Constant(None))


def _expressions(node: ast.AST) -> Iterator[Callable[[], None]]:
    match node:
        case ast.Compare(ops=ops):
            for number, op in enumerate(ops):
                for other in COMPARISONS[type(op)]:
                    yield _setting(ops, number, other())
        case ast.BoolOp():
            yield _setattr(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
        case ast.BinOp() if type(node.op) in ARITHMETIC:
            yield _setattr(node, "op", ARITHMETIC[type(node.op)]())
        case ast.UnaryOp(op=ast.Not()):
            yield _setattr(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
        case ast.IfExp():
            yield _setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
        case ast.comprehension(ifs=[_, *_]):
            yield _setattr(node, "ifs", [])


def _constants(node: ast.Constant) -> Iterator[Callable[[], None]]:
    if isinstance(node.value, bool):
        yield _setattr(node, "value", not node.value)
    elif isinstance(node.value, int | float):
        yield _setattr(node, "value", node.value + 1)
    elif isinstance(node.value, str):
        yield _setattr(node, "value", node.value + "X")


def _setting(values: list[ast.cmpop], number: int, new: ast.cmpop) -> Callable[[], None]:
    return lambda: values.__setitem__(number, new)


def _setattr(node: ast.AST, name: str, value: object) -> Callable[[], None]:
    return lambda: setattr(node, name, value)


def _becoming_pass(node: ast.stmt) -> Callable[[], None]:
    def change() -> None:
        node.__class__ = ast.Pass  # type: ignore[assignment] # in place: its parent is not known
        for name in ("value", "exc", "cause"):
            node.__dict__.pop(name, None)

    return change

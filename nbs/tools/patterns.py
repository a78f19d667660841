"""Find a piece of code by its structure, and put another piece in its place.

A pattern is a piece of Python: an expression, one statement, or `name = value`, which
is an assignment, an argument given by name, or the default of an argument. Line
breaks, quotes, comments, docstrings, annotations and decorators do not count, nor
does a single underscore in front of a name.

`...` in a pattern stands for any expression, and as the last argument of a call for
any further arguments. In what is put there instead, `...` is what was found.
"""
import ast
import copy
import re
from collections.abc import Iterator
from typing import NamedTuple

SILENT = {  # what does not change what code does
    'annotation',
    'ctx',
    'decorator_list',
    'kind',
    'returns',
    'type_comment',
    'type_params',
}


class Place(NamedTuple):
    """Where a node hangs: in a field of its parent, or in a list."""
    holder: ast.AST | list
    key: str | int
    node: ast.AST

    def put(self, node: ast.AST):
        """Hang another node there."""
        if isinstance(self.holder, list):
            self.holder[self.key] = node
        else:
            setattr(self.holder, self.key, node)


class Rest(NamedTuple):
    """The arguments of a call for which a last `...` stands."""
    args: list
    keywords: list


def parsed(code: str) -> ast.AST:
    """The tree of an expression or of one statement."""
    body = ast.parse(code).body
    if len(body) != 1:
        raise ValueError(f'{code!r} has {len(body)} statements, it should have one')
    return body[0].value if isinstance(body[0], ast.Expr) else body[0]


def public(name: str) -> str:
    """A name, also one with dots, without an underscore in front of its parts."""
    return re.sub(r'\b_(?=[A-Za-z])', '', name)


# Comparing.

def is_gap(pattern) -> bool:
    return isinstance(pattern, ast.Constant) and pattern.value is Ellipsis


def is_open_call(pattern) -> bool:
    """Does a call end in `...`?"""
    if not isinstance(pattern, ast.Call) or pattern.keywords:
        return False
    return bool(pattern.args) and is_gap(pattern.args[-1])


def fits(pattern, code) -> list | None:
    """What stands in the gaps of the pattern, in order; None for other code."""
    if is_gap(pattern) and isinstance(code, ast.expr):
        return [code]
    if type(pattern) is not type(code):
        return None
    if isinstance(pattern, ast.Constant):
        alike = type(pattern.value) is type(code.value) and pattern.value == code.value
        return [] if alike else None
    if is_open_call(pattern):
        return _open_call_fits(pattern, code)
    if isinstance(pattern, ast.AST):
        return _all_fit(_parts(pattern), _parts(code))
    if isinstance(pattern, list):
        return _all_fit(pattern, code)
    if isinstance(pattern, str):
        return [] if public(pattern) == public(code) else None
    return [] if pattern == code else None


def _parts(node: ast.AST) -> list:
    return [getattr(node, field) for field in node._fields if field not in SILENT]


def _all_fit(patterns: list, codes: list) -> list | None:
    if len(patterns) != len(codes):
        return None
    gaps = []
    for pattern, code in zip(patterns, codes):
        found = fits(pattern, code)
        if found is None:
            return None
        gaps += found
    return gaps


def _open_call_fits(pattern: ast.Call, code: ast.Call) -> list | None:
    named = len(pattern.args) - 1
    if len(code.args) < named:
        return None
    found = _all_fit(
        [pattern.func, *pattern.args[:named]],
        [code.func, *code.args[:named]],
    )
    return None if found is None else [*found, Rest(code.args[named:], code.keywords)]


# Looking.

def places(tree: ast.AST) -> Iterator[Place]:
    """Every node below `tree` that counts."""
    for field, value in ast.iter_fields(tree):
        if field in SILENT:
            continue
        inside = enumerate(value) if isinstance(value, list) else [(field, value)]
        holder = value if isinstance(value, list) else tree
        for key, node in inside:
            if isinstance(node, ast.AST):
                yield Place(holder, key, node)
                yield from places(node)


def bindings(tree: ast.AST) -> Iterator[tuple[str, Place]]:
    """Every value below `tree` that is given to a name, with the name."""
    for place in places(tree):
        node = place.node
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _pairs(target, Place(node, 'value', node.value))
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value:
            yield from _pairs(node.target, Place(node, 'value', node.value))
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg, Place(node, 'value', node.value)
        elif isinstance(node, ast.arguments):
            yield from _defaults(node)


def _pairs(target: ast.expr, place: Place) -> Iterator[tuple[str, Place]]:
    """`a, b = c, d` gives a name to each of two values."""
    if isinstance(target, (ast.Name, ast.Attribute)):
        yield ast.unparse(target), place
    elif isinstance(target, ast.Tuple) and isinstance(place.node, ast.Tuple):
        values = place.node.elts
        if len(target.elts) == len(values):
            for i, part in enumerate(target.elts):
                yield from _pairs(part, Place(values, i, values[i]))


def _defaults(arguments: ast.arguments) -> Iterator[tuple[str, Place]]:
    names = [*arguments.posonlyargs, *arguments.args]
    names = names[len(names) - len(arguments.defaults):]
    for given, defaults in [
        (names, arguments.defaults),
        (arguments.kwonlyargs, arguments.kw_defaults),
    ]:
        for i, (argument, value) in enumerate(zip(given, defaults)):
            if value is not None:
                yield argument.arg, Place(defaults, i, value)


def found(pattern: ast.AST, tree: ast.AST) -> list[tuple[Place, list]]:
    """The places below `tree` that a pattern fits, each with what is in the gaps."""
    where = places(tree)
    if isinstance(pattern, ast.Assign):
        name = public(ast.unparse(pattern.targets[0]))
        where = [place for given, place in bindings(tree) if public(given) == name]
        pattern = pattern.value
    tried = [(place, fits(pattern, place.node)) for place in where]
    return [(place, gaps) for place, gaps in tried if gaps is not None]


def functions(tree: ast.Module) -> list[tuple[str, ast.AST]]:
    """Functions and methods with their names: `q_sample`, `DDPM.forward`.

    A function that becomes a method by `DDPM.x0_hat = x0_hat` has both names.
    """
    every = []
    for node in tree.body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        before = f'{node.name}.' if isinstance(node, ast.ClassDef) else ''
        for part in inside:
            if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)):
                every.append((before + part.name, part))
    known = dict(every)
    assignments = [node for node in tree.body if isinstance(node, ast.Assign)]
    for name, place in bindings(ast.Module(assignments, [])):
        if '.' in name and isinstance(place.node, ast.Name) and place.node.id in known:
            every.append((name, known[place.node.id]))
    return every


def called(name: str, tree: ast.Module) -> list[ast.AST]:
    """The functions of that name; if there is none, of the same but for underscores."""
    every = functions(tree)
    exact = [function for given, function in every if given == name]
    alike = [function for given, function in every if public(given) == public(name)]
    return exact or alike


# Changing.

def exchange(place: Place, gaps: list, wrong: str):
    """Put `wrong` there, with what was found in its gaps; nothing if it is empty."""
    if not wrong:
        place.put(ast.Pass())
        return
    new = parsed(wrong)
    new = new.value if isinstance(new, ast.Assign) else new
    place.put(_Fill(gaps).visit(ast.Expression(new)).body)


class _Fill(ast.NodeTransformer):
    """Puts what was found into the gaps, in order."""

    def __init__(self, gaps: list):
        self.gaps = copy.deepcopy(gaps)
        self.keywords = []

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        node.keywords += self.keywords
        self.keywords = []
        return node

    def visit_Constant(self, node: ast.Constant):
        if not is_gap(node):
            return node
        if not self.gaps:
            raise ValueError('there are more gaps to fill than were found')
        new = self.gaps.pop(0)
        if not isinstance(new, Rest):
            return new
        if len(new.args) == 1 and not new.keywords:
            return new.args[0]
        self.keywords = new.keywords
        return new.args


def replaced(text: str, function: str, right: str, wrong: str) -> str:
    """The text of a module with one place in a function changed.

    right: a pattern that fits once.   wrong: what to put there, or nothing.
    Raises ValueError if it fits never, or several times.
    """
    tree = ast.parse(text)
    pattern = parsed(right) if wrong else ast.Expr(parsed(right))
    fitting = [pair for node in called(function, tree) for pair in found(pattern, node)]
    if len(fitting) != 1:
        raise ValueError(
            f'`{right}` stands {len(fitting)} times in the function {function}, '
            f'it should stand there once'
        )
    exchange(*fitting[0], wrong)
    return ast.unparse(ast.fix_missing_locations(tree)) + '\n'


def asserted(source: str) -> list[ast.stmt]:
    """The statements of a cell that check something.

    They are assertions, errors that it raises, and calls that stand alone, such as
    `refused(lambda: train(few.flip(0)))`; but a call of `print` checks nothing.
    """
    kept = []
    shown = parsed('print(...)')
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Assert, ast.Raise)):
            kept.append(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            if fits(shown, node.value) is None:
                kept.append(node)
    return kept


def checks(source: str, pattern: str) -> bool:
    """Does a cell check this?"""
    return any(found(parsed(pattern), statement) for statement in asserted(source))

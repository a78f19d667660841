"""What `help()` says of every public name: each parameter, what comes back, what is raised."""
import ast
import dataclasses
import importlib
import inspect
import re
import textwrap

import pytest

import ddpm_teach as d
from places import public_names


def described():
    """Every public function and class of the modules, with the public methods: name -> object."""
    found = {}
    for module in [*public_names(), 'cli']:
        home = importlib.import_module(f'ddpm_teach.{module}')
        for name in home.__all__:
            thing = inspect.unwrap(getattr(home, name))
            if inspect.isroutine(thing) or inspect.isclass(thing):
                found[name] = thing
            if inspect.isclass(thing):
                found |= {f'{name}.{method}': f for method, f in vars(thing).items() if inspect.isfunction(f) and not method.startswith('_')}
    return found


THINGS = described()
UNDONE = set()
EVERY = [pytest.param(name, marks=pytest.mark.xfail) if name in UNDONE else name for name in THINGS]


def own_code(function):
    """The nodes of a function, without those of functions inside it."""
    todo = list(ast.parse(textwrap.dedent(inspect.getsource(function))).body[0].body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.Lambda)):
            todo.extend(ast.iter_child_nodes(node))


def called(node):
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ''


def test_all_public_names_are_there():
    assert set(d.__all__) <= set(THINGS) and len(THINGS) > 90


@pytest.mark.parametrize('name', EVERY)
def test_each_parameter_is_described(name):
    thing, doc = THINGS[name], inspect.getdoc(THINGS[name]) or ''
    fields = list(getattr(thing, '_fields', ())) or [f.name for f in dataclasses.fields(thing)] if dataclasses.is_dataclass(thing) or hasattr(thing, '_fields') else []
    names = fields or [p for p in inspect.signature(thing).parameters if p != 'self']
    missing = [p for p in names if not re.search(rf'(?:^|[\s,]){p}(?:, \w+)*: ', doc, re.M)]
    assert not missing, f'{name} does not describe {missing} in:\n{doc}'


@pytest.mark.parametrize('name', EVERY)
def test_what_comes_back_and_what_is_raised(name):
    thing, doc = THINGS[name], inspect.getdoc(THINGS[name]) or ''
    assert doc, f'{name} has no docstring'
    function = next((vars(thing)[init] for init in ('__post_init__', '__init__') if init in vars(thing)), None) if inspect.isclass(thing) else thing
    code = [] if function is None else list(own_code(function))
    if not inspect.isclass(thing) and any(isinstance(node, (ast.Return, ast.Yield)) and node.value is not None for node in code):
        assert re.search(r'\b(Return|return|Yield)s?\b', doc), f'{name} returns something and does not say what:\n{doc}'
    if any(isinstance(node, ast.Raise) or called(node).startswith('_check') for node in code):
        assert 'Raises' in doc, f'{name} raises and does not say so:\n{doc}'


@pytest.mark.parametrize('name', list(THINGS))
def test_it_is_plain_text(name):
    doc = inspect.getdoc(THINGS[name])
    assert all(c == '\n' or c.isprintable() for c in doc) and '$' not in doc and '\\' not in doc, name


def test_a_missing_description_is_found():
    def wrong(n: int, size: int):
        "n: how many."
    THINGS['wrong'] = wrong
    try:
        with pytest.raises(AssertionError, match='size'):
            test_each_parameter_is_described('wrong')
    finally:
        del THINGS['wrong']

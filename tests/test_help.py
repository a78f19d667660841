"""What `help()` says: docstrings in Google's style, of every public name."""
import importlib
import inspect
import re

import pytest

import ddpm_teach as d
from places import public_names

SECTIONS = ('Args', 'Attributes', 'Raises', 'Returns', 'Yields')


def described():
    """Every public function and class of the modules, with their public methods."""
    found = {}
    for module in [*public_names(), 'cli']:
        home = importlib.import_module(f'ddpm_teach.{module}')
        for name in home.__all__:
            thing = inspect.unwrap(getattr(home, name))
            if inspect.isroutine(thing) or inspect.isclass(thing):
                found[name] = thing
            if inspect.isclass(thing):
                for method, function in vars(thing).items():
                    if inspect.isfunction(function) and not method.startswith('_'):
                        found[f'{name}.{method}'] = inspect.unwrap(function)
    return found


THINGS = described()
PUBLIC = [name for name in THINGS if name.split('.')[0] in d.__all__]


def sections(doc: str) -> dict[str, str]:
    """The summary and the sections of a docstring."""
    parts = re.split(rf'^({"|".join(SECTIONS)}):\n', doc, flags=re.M)
    return {'': parts[0]} | dict(zip(parts[1::2], parts[2::2]))


def arguments_in(doc: str) -> set[str]:
    """The names that the section of arguments describes."""
    found = set()
    listed = sections(doc).get('Args', '')
    for names in re.findall(r'^    (\*{0,2}\w+(?:, \w+)*): ', listed, flags=re.M):
        found |= set(names.split(', '))
    return found


def parameters_of(thing):
    """Those that a caller may give."""
    try:
        wanted = inspect.signature(thing).parameters
    except ValueError:                    # an exception that takes what Exception takes
        return {}
    return {name: p for name, p in wanted.items() if name != 'self'}


def test_all_public_names_are_there():
    assert set(d.__all__) <= set(THINGS) and len(THINGS) > 120


@pytest.mark.parametrize('name', PUBLIC)
def test_the_first_line_says_what_it_is(name):
    if '.' in name and not inspect.getdoc(THINGS[name]):
        return                                    # a method whose name says it all
    first = inspect.getdoc(THINGS[name]).splitlines()[0]
    assert 10 <= len(first) <= 88 and first[0] != ' ', first


@pytest.mark.parametrize('name', list(THINGS))
def test_what_is_described_exists(name):
    doc = inspect.getdoc(THINGS[name]) or ''
    known = set(parameters_of(THINGS[name]))
    for kind in getattr(THINGS[name], '__mro__', []):
        known |= set(getattr(kind, '__annotations__', {}))
    unknown = arguments_in(doc) - known
    assert not unknown, f'{name} describes {unknown}, which it does not take'


@pytest.mark.parametrize('name', PUBLIC)
def test_a_parameter_is_typed_or_described(name):
    doc = inspect.getdoc(THINGS[name]) or ''
    if '.' in name:                       # what all methods share, the class says
        for kind in THINGS[name.split('.')[0]].__mro__:
            doc += kind.__doc__ or ''
    silent = []
    for parameter, given in parameters_of(THINGS[name]).items():
        typed = given.annotation is not given.empty
        if not typed and not re.search(rf'\b{parameter}\b', doc):
            silent.append(parameter)
    assert not silent, f'{name} says nothing of {silent}'


@pytest.mark.parametrize('name', list(THINGS))
def test_it_is_plain_text_that_fits(name):
    doc = inspect.getdoc(THINGS[name]) or ''
    assert all(c == '\n' or c.isprintable() for c in doc), name
    assert '$' not in doc and '\\' not in doc, name
    assert max(map(len, doc.splitlines() or [''])) <= 88, name
    for line in re.findall(r'^(\w+):$', doc, flags=re.M):
        assert line in SECTIONS, f'{name} has a section {line}'


def test_a_wrong_description_is_found():
    def wrong(n: int, size):
        """Something that is wrong.

        Args:
            sizes: how large.
        """
    THINGS['wrong'] = wrong
    try:
        with pytest.raises(AssertionError, match='sizes'):
            test_what_is_described_exists('wrong')
        with pytest.raises(AssertionError, match='size'):
            test_a_parameter_is_typed_or_described('wrong')
    finally:
        del THINGS['wrong']

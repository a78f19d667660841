"""The decorator `typed`: what passes, what is refused, and in which words."""
import inspect
import pathlib
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, Literal, Optional, Protocol, Union, runtime_checkable

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

from ddpm_teach.plumbing.types import Given, typed

X = torch.zeros(2, 3, 4, 4)
T = torch.tensor([1, 2])


def ours(name: str, home: str = '__main__', bases: tuple = (), **body) -> type:
    """A class as a notebook or the library has it."""
    return type(name, bases, {'__module__': home, **body})


Schedule = ours('Schedule', 'ddpm_teach.schedule', T=20)
Cosine = ours('Cosine', bases=(Schedule,))
Again = ours('Schedule', T=30)                     # the cell, run again
Other = ours('Other')


@typed
def q_sample(
    x0: Float[Tensor, " b *picture"],
    t: Int[Tensor, " b"],
    schedule: Schedule,
    eps: Float[Tensor, " b *picture"],
    *rest: int,
    scale: float = 1.,
    **more: int,
) -> Float[Tensor, " b *picture"]:
    """Jump."""
    return x0 + scale * eps


def refused(error: type, words: str, call: Callable, *args, **kwargs):
    """That a call is refused in these words, by us and by nobody else."""
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    assert type(caught.value) is error
    said = str(caught.value)           # after the words come the sizes of the others
    assert said == words or said.startswith(words + ';')
    assert caught.value.__cause__ is None and caught.value.__context__ is None


def takes(hint):
    """A function of one argument."""
    @typed
    def f(x: hint):
        return x
    return f


@pytest.mark.parametrize('args, kwargs', [
    ((X, T, Schedule(), X), {}),
    ((X, T), dict(schedule=Schedule(), eps=X)),
    ((), dict(eps=X, schedule=Schedule(), t=T, x0=X)),
    ((X, T, Schedule(), X), dict(scale=2)),
    ((X, T, Schedule(), X, 'any', 'thing'), {}),
    ((X, T, Schedule(), X, 'any', 'thing'), dict(scale=.5, more='too')),
    ((X.double(), T.int(), Cosine(), X.bfloat16()), {}),
    ((X[:, 0, 0, 0], T, Again(), X[:, 0, 0, 0]), {}),
])
def test_what_is_right_passes(args, kwargs):
    assert q_sample(*args, **kwargs).shape == (args or [kwargs['x0']])[0].shape


S = Schedule()
SIZES = 'with b = 2, picture = (3, 4, 4)'
WRONG = [                                           # argument, value, what that is
    ('eps', X[:1], 'a float32 tensor of shape (1, 3, 4, 4)'),
    ('eps', X.byte(), 'a uint8 tensor of shape (2, 3, 4, 4)'),
    ('eps', X[..., :0], 'a float32 tensor of shape (2, 3, 4, 0)'),
    ('t', T[:1], 'an int64 tensor [1] of shape (1,)'),
    ('t', T[:, None], 'an int64 tensor [[1], [2]] of shape (2, 1)'),
    ('t', T / 10, 'a float32 tensor [0.1, 0.2] of shape (2,)'),
    ('t', T > 1, 'a bool tensor [False, True] of shape (2,)'),
    ('t', T[0], 'an int64 tensor 1 of shape ()'),
    ('t', [1, 2], 'a list [1, 2]'),
    ('t', T.numpy(), 'an ndarray array([1, 2])'),
    ('t', T.to('meta')[:1], 'an int64 tensor of shape (1,) on the device meta'),
    ('x0', 'two', "a str 'two'"),
    ('x0', None, 'a NoneType None'),
    ('schedule', 'linear', "a str 'linear'"),
    ('scale', 'one', "a str 'one'"),
]
WANTED = {
    'x0': 'Float[Tensor, "b *picture"]',
    't': 'Int[Tensor, "b"] with b = 2',
    'schedule': 'a Schedule',
    'eps': f'Float[Tensor, "b *picture"] {SIZES}',
    'scale': 'a float',
}


@pytest.mark.parametrize('name, value, words', WRONG)
def test_what_is_wrong_is_named(name, value, words):
    given = dict(x0=X, t=T, schedule=S, eps=X) | {name: value}
    words = f'q_sample: {name} is {words}, it should be {WANTED[name]}'
    refused(TypeError, words, q_sample, **given)
    backwards = {key: given[key] for key in reversed(given)}
    refused(TypeError, words, q_sample, **backwards)
    if name != 'scale':
        refused(TypeError, words, q_sample, *given.values())


def test_the_size_of_each_call_is_its_own():
    q_sample(X, T, S, X)
    q_sample(X[:1], T[:1], S, X[:1])
    with pytest.raises(TypeError, match='with b = 1, picture'):
        q_sample(X[:1], T[:1], S, X)
    q_sample(X, T, S, X)


def test_pythons_own_complaints_stay():
    with pytest.raises(TypeError, match="missing 1 required positional .* 'eps'"):
        q_sample(X, T, S)
    with pytest.raises(TypeError, match="multiple values for argument 't'"):
        q_sample(X, T, S, X, t=T)
    with pytest.raises(TypeError, match='takes 1 positional argument but 2 were given'):
        takes(int)(1, 2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
        takes(int)(1, y=2)


def test_long_things_are_cut():
    with pytest.raises(TypeError) as caught:
        takes(int)('a' * 1000)
    assert str(caught.value) == f"f: x is a str '{'a' * 76}..., it should be an int"
    with pytest.raises(TypeError) as caught:
        takes(int)(np.zeros((9, 9)))
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 150


@pytest.mark.parametrize('odd, words', [
    (X.to_sparse(), 'a float32 tensor of shape (2, 3, 4, 4)'),
    (X[0, 0, 0].to_sparse(), 'a float32 tensor of shape (4,)'),
    (torch.tensor([1 + 2j]), 'a complex64 tensor [(1+2j)] of shape (1,)'),
    (torch.tensor([.1, float('nan')]), 'a float32 tensor [0.1, nan] of shape (2,)'),
])
def test_odd_tensors_have_words_too(odd, words):
    refused(TypeError, f'f: x is {words}, it should be an int', takes(int), odd)


# Tensors without numbers.

def test_meta_tensors_are_refused_by_name():
    for name, value in dict(x0=X, t=T, eps=X).items():
        given = dict(x0=X, t=T, schedule=S, eps=X) | {name: value.to('meta')}
        dtype = 'an int64' if name == 't' else 'a float32'
        words = (f'q_sample: {name} is {dtype} tensor of shape {tuple(value.shape)} on '
                 'the device meta, which holds no numbers, it should be on the CPU or '
                 'on an accelerator')
        refused(ValueError, words, q_sample, **given)


def test_empty_tensors_are_refused_by_name():
    words = 'q_sample: x0 has shape (0, 3, 4, 4), it should hold one or more'
    refused(ValueError, words, q_sample, X[:0], T, S, X)
    words = 'f: x has shape (2, 0), it should hold one or more'
    refused(ValueError, words, takes(Tensor | None), torch.zeros(2, 0))


def test_a_result_may_be_empty():
    @typed
    def none(x: Tensor) -> Float[Tensor, " n"]:
        return x[:0]
    assert none(torch.ones(2)).shape == (0,)


# Kinds of annotations.

S1 = Schedule()
S2 = Again()
S3 = Cosine()
NET = torch.nn.Linear(1, 1)
LIST = list[Float[Tensor, " n"]]
HINTS = [                                           # annotation, right, wrong, in words
    (int, [1, True, -3, np.int64(1)], [1., '1', torch.tensor(1)], 'an int'),
    (float, [1, 1., True, np.float64(1)], ['1', np.float32(1), T[0]], 'a float'),
    (bool, [True], [1, None, np.True_], 'a bool'),
    (str, ['a', ''], [b'a', None, pathlib.Path('a')], 'a str'),
    (None, [None], [0, ''], 'None'),
    (Any, [None, 1, X], [], ''),
    (Tensor, [X, torch.nn.Parameter(X), T[0]], [[1.], np.zeros(1)], 'a Tensor'),
    (Float[Tensor, ""], [X.mean()], [1., T[0], X], 'Float[Tensor, ""]'),
    (UInt8[Tensor, " 3 h"], [X[0, ..., 0].byte()], [X[0, ..., 0], X.byte()],
     'UInt8[Tensor, "3 h"]'),
    (Shaped[Tensor, " n n"], [X[0, 0], T[None, :1]], [X[0, 0, :2]],
     'Shaped[Tensor, "n n"]'),
    (Float[Tensor, ""] | None, [None, X.mean()], [1., X], 'Float[Tensor, ""] or None'),
    (Optional[Int[Tensor, " n"]], [None, T], [X, 1], 'Int[Tensor, "n"] or None'),
    (Float[Tensor, " n"] | float, [1, 1., T.float()], [T, '1'],
     'Float[Tensor, "n"] or a float'),
    (Union[int, str, None], [1, 'a', None], [1., b''], 'an int or a str or None'),
    (Literal['x0', 'eps'], ['x0', 'eps'], ['v', None, 1], "'x0' or 'eps'"),
    (Callable, [print, int, NET], ['print', None, X], 'callable'),
    (Callable[[Tensor], Tensor], [print], ['print'], 'callable'),
    (Callable[..., Any] | None, [print, None], ['print'], 'callable or None'),
    (Given, [{}, {'a': X}], [{'a': 1}, {1: X}, X, [X]], 'a dict[str, Tensor]'),
    (tuple[int, ...], [(), (1, 2)], [[1], 1, ('a',)], 'a tuple[int, ...]'),
    (tuple[int, str], [(1, 'a')], [(1, 2), (1,)], 'a tuple[int, str]'),
    (Sequence[float], [[1., 2], (1,)], [['a'], 1., {1.}], 'a Sequence[float]'),
    (LIST, [[T.float()] * 2], [[T], T.float()], 'a list[Float[Tensor, "n"]]'),
    (str | pathlib.Path, ['a', pathlib.Path('a')], [1], 'a str or a Path'),
    (type[torch.nn.Module], [torch.nn.Linear], [NET, int], 'a type[Module]'),
    (torch.nn.Module, [NET], ['Module', print], 'a Module'),
    (Schedule, [S1, S2, S3], ['linear', None, Other(), Schedule], 'a Schedule'),
    (Again, [S1, S2, S3], ['linear', None, Other()], 'a Schedule'),
    (Cosine, [S3], [S1, S2], 'a Cosine'),
    (Schedule | None, [S1, S2, None], ['linear', 0], 'a Schedule or None'),
    (Optional[Schedule], [S1, S2, None], ['linear', 0], 'a Schedule or None'),
    (Schedule | Other, [S2, Other()], [None, 1], 'a Schedule or an Other'),
    (list[Schedule], [[], [S1], [S2]], [[1], S1, [Schedule]], 'a list[Schedule]'),
    (dict[str, Schedule | None], [{'a': S2}, {'a': None}], [{'a': 1}, 1],
     'a dict[str, Schedule | None]'),
    (tuple[Schedule, ...], [(S1, S2)], [(1,), S1], 'a tuple[Schedule, ...]'),
    (Sequence[Schedule], [[S2]], [[1], 'a'], 'a Sequence[Schedule]'),
    (type[Schedule], [Schedule, Again, Cosine], [Other, S1, int], 'a type[Schedule]'),
    (Callable[[Schedule], int], [print], [1], 'callable'),
]


@pytest.mark.parametrize('hint, right, wrong, wanted', HINTS)
def test_annotations(hint, right, wrong, wanted):
    call = takes(hint)
    for value in right:
        assert call(value) is value and call(x=value) is value
    for value in wrong:
        with pytest.raises(TypeError) as caught:
            call(value)
        said = str(caught.value).split('; ')[0]               # and a remedy
        assert said.startswith('f: x is ') and said.endswith(f', it should be {wanted}')


def test_a_protocol_asks_what_an_object_can_do():
    @runtime_checkable
    class Sized(Protocol):
        __module__ = '__main__'

        def size(self): ...
    assert takes(Sized)(X) is X
    with pytest.raises(TypeError, match='it should be a Sized'):
        takes(Sized)('X')


def test_arithmetic_of_sizes():
    @typed
    def doubled(
        x: Float[Tensor, " n"],
        y: Float[Tensor, " 2*n"],
    ) -> Float[Tensor, " n+1"]:
        return y[:3]
    assert doubled(torch.ones(2), torch.ones(4)).shape == (3,)
    words = ('doubled: y is a float32 tensor [1, 1, 1] of shape (3,), '
             'it should be Float[Tensor, "2*n"] with n = 2')
    refused(TypeError, words, doubled, torch.ones(2), torch.ones(3))


# Results.

def test_a_wrong_result_says_so():
    @typed
    def f(x: Float[Tensor, " b n"]) -> Float[Tensor, " b"]:
        return x.mean(0)
    words = ('f returned a float32 tensor [0, 0, 0] of shape (3,), '
             'it should be Float[Tensor, "b"] with b = 2')
    refused(TypeError, words, f, torch.zeros(2, 3))

    @typed
    def g(x) -> None:
        return x
    assert g(None) is None
    refused(TypeError, 'g returned an int 1, it should be None', g, 1)

    @typed
    def h(x) -> Schedule:
        return x
    assert isinstance(h(Again()), Again)
    refused(TypeError, "h returned a str 'x', it should be a Schedule", h, 'x')


# Methods, generators, other decorators.

class Model:
    """Methods name the class; the constructor is called by its name alone."""

    @typed
    def __init__(self, betas: Float[Tensor, " T"]):
        self.betas = betas

    @typed
    def at(
        self,
        t: Int[Tensor, " b"],
        like: Float[Tensor, " b *rest"] | None = None,
    ) -> Float[Tensor, " b"]:
        return self.betas[t]

    @typed
    def same(self, other: 'Model | None' = None) -> 'Model':
        return other or self

    @staticmethod
    @typed
    def of(n: int) -> 'Model':
        return Model(torch.ones(n))

    @classmethod
    @typed
    def also(cls, n: int) -> 'Model':
        return cls(torch.ones(n))

    @property
    @typed
    def wrong(self) -> int:
        return 'one'


def test_methods():
    model = Model(torch.ones(5))
    assert model.at(T).shape == model.at(t=T, like=X).shape == (2,)
    assert model.same() is model.same(model) is model.same(other=model)
    assert len(Model.of(3).betas) == len(Model.also(3).betas) == 3
    array = 'Float[Tensor, "T"]'
    for words, call, *args in [
        (f'Model: betas is a list [0.1], it should be {array}', Model, [.1]),
        ('Model.at: t is an int 1, it should be Int[Tensor, "b"]', model.at, 1),
        ('Model.at: like is a float32 tensor of shape (1, 3, 4, 4), it should be '
         'Float[Tensor, "b *rest"] or None with b = 2', model.at, T, X[:1]),
        ('Model.same: other is an int 1, it should be a Model or None', model.same, 1),
        ('Model.of: n is a float 1.0, it should be an int', Model.of, 1.),
        ('Model.also: n is a float 1.0, it should be an int', Model.also, 1.),
        ("Model.wrong returned a str 'one', it should be an int",
         Model.wrong.fget, model),
    ]:
        refused(TypeError, words, call, *args)


def test_a_class_of_this_very_function_by_its_name():
    class Local:
        @typed
        def same(self, other: 'Local') -> 'Local':
            return other
    assert isinstance(Local().same(Local()), Local)
    with pytest.raises(TypeError, match='it should be a Local$'):
        Local().same(1)


def test_modules():
    class Net(torch.nn.Module):
        @typed
        def __init__(self, width: int):
            super().__init__()
            self.layer = torch.nn.Linear(width, width)

        @typed
        def forward(self, x: Float[Tensor, " b w"]) -> Float[Tensor, " b w"]:
            return self.layer(x)
    net = Net(3)
    net(torch.ones(2, 3)).sum().backward()
    assert net.layer.weight.grad is not None
    words = ('Net.forward: x is a float32 tensor [1, 1, 1] of shape (3,), '
             'it should be Float[Tensor, "b w"]')
    refused(TypeError, words, net, torch.ones(3))


def test_generators_are_lazy_and_checked_at_the_call():
    begun = []

    @typed
    def steps(x: Float[Tensor, " n"], start: int = 3) -> Iterator[int]:
        begun.append(start)
        got = yield from range(start, 0, -1)
        return got
    words = "steps: start is a str 'two', it should be an int"
    refused(TypeError, words, steps, torch.ones(1), 'two')
    generator = steps(torch.ones(1), 2)
    assert inspect.isgenerator(generator) and not begun
    assert list(generator) == [2, 1] and begun == [2]
    closed = steps(torch.ones(1))
    assert next(closed) == 3
    closed.close()


def test_a_generator_among_other_calls_keeps_their_sizes_apart():
    @typed
    def inner(x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return x

    @typed
    def steps(n: int) -> Iterator[Tensor]:
        for i in range(1, n):
            yield inner(torch.ones(i))

    @typed
    def outer(x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        assert [len(y) for y in steps(4)] == [1, 2, 3]
        return inner(torch.ones(7))[:5] * x
    assert outer(torch.ones(5)).shape == (5,)


def test_nested_calls_say_it_once():
    @typed
    def inner(x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return x

    @typed
    def outer(x: Float[Tensor, " n"], y) -> Float[Tensor, " n"]:
        return inner(y)
    assert outer(torch.ones(2), torch.zeros(2)).shape == (2,)
    array = 'Float[Tensor, "n"]'
    words = f"inner: x is a str 'y', it should be {array}"
    refused(TypeError, words, outer, torch.ones(2), 'y')
    words = ('outer returned a float32 tensor [0, 0, 0] of shape (3,), '
             f'it should be {array} with n = 2')
    refused(TypeError, words, outer, torch.ones(2), torch.zeros(3))


def test_errors_of_the_function_pass_as_they_are():
    @typed
    def f(x: int) -> int:
        raise TypeError('mine')
    refused(TypeError, 'mine', f, 1)
    with pytest.raises(TypeError, match='it should be an int'):
        f('1')


def test_other_decorators_above_and_below():
    def twice(fn):
        @wraps(fn)
        def inner(*args, **kwargs):
            fn(*args, **kwargs)
            return fn(*args, **kwargs)
        return inner
    calls = []

    def f(x: int) -> int:
        calls.append(x)
        return x
    for both in (typed(twice(f)), twice(typed(f))):
        with pytest.raises(TypeError, match='f: x is a str'):
            both('1')
        assert calls == [] and both(1) == 1 and calls == [1, 1]
        calls.clear()

    @contextmanager
    @typed
    def opened(n: int) -> Iterator[int]:
        yield n
    with opened(3) as n:
        assert n == 3
    with pytest.raises(TypeError, match='opened: n is'):
        opened('3')


@pytest.mark.parametrize('thing', [
    Model, staticmethod(len), classmethod(len), len, torch.nn.Identity(), 'f', None,
])
def test_what_is_no_function_is_refused(thing):
    with pytest.raises(TypeError, match='typed: fn is .* it should be a function'):
        typed(thing)


# The function is as it was.

def test_the_function_is_seen_through():
    original = inspect.unwrap(q_sample)
    assert original is not q_sample
    assert inspect.signature(q_sample) == inspect.signature(original)
    annotation = inspect.signature(q_sample).parameters['x0'].annotation
    assert annotation.__name__ == "Float[Tensor, 'b *picture']"
    assert q_sample.__doc__ == 'Jump.'
    assert (q_sample.__module__, q_sample.__name__) == (__name__, 'q_sample')
    assert q_sample.__annotations__ == original.__annotations__
    assert pickle.loads(pickle.dumps(q_sample)) is q_sample
    assert inspect.getsource(q_sample).startswith('@typed\ndef q_sample')


def test_defaults_are_the_authors_business():
    @typed
    def f(x: int = None, *, y: Float[Tensor, " n"] = None):
        return x, y
    assert f() == (None, None)
    with pytest.raises(TypeError, match='y is a NoneType None, it should be Float'):
        f(y=None)


def test_position_only():
    @typed
    def f(x: int, /, y: int, *, z: int) -> int:
        return x + y + z
    assert f(1, 2, z=3) == f(1, y=2, z=3) == 6
    for name, args, z in (('x', ('1', 2), 3), ('y', (1, '2'), 3), ('z', (1, 2), '3')):
        with pytest.raises(TypeError, match=f'f: {name} is .* should be an int'):
            f(*args, z=z)


def test_threads_keep_their_sizes_apart():
    wrong = []

    def work(n):
        x = torch.zeros(n, 3)
        t = torch.ones(n, dtype=torch.long)
        try:
            for _ in range(50):
                q_sample(x, t, S, x)
        except TypeError as error:
            wrong.append(error)
    threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_transforms_and_compilers_pass():
    @typed
    def f(x: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        return (x ** 2).sum()
    rows = torch.arange(6.).reshape(2, 3)
    assert torch.equal(torch.func.vmap(f)(rows), (rows ** 2).sum(1))
    assert torch.equal(torch.func.grad(f)(rows[0]), 2 * rows[0])
    with pytest.raises(TypeError, match='x is a float32 tensor of shape'):
        torch.func.vmap(f)(rows[None])
    compiled = torch.compile(f, backend='eager', fullgraph=True)
    assert torch.equal(compiled(rows[0]), f(rows[0]))


def test_a_call_costs_little():
    args = (X, T, S, X)
    q_sample(*args)
    best = min(timed(q_sample, args) for _ in range(5))
    assert best < 2e-3


def timed(fn: Callable, args: tuple, n: int = 50) -> float:
    start = time.perf_counter()
    for _ in range(n):
        fn(*args)
    return (time.perf_counter() - start) / n


def test_a_script_may_write_a_class_anew():
    """As in a notebook: in `__main__`, with the very same statement."""
    script = '''
import torch
from ddpm_teach.plumbing.types import typed
source = """
class Palette:
    @typed
    def joined(self, other: 'Palette') -> 'Palette':
        return other
"""
exec(source)
old = Palette()

@typed
def named(palette: Palette | None) -> str:
    return type(palette).__name__

exec(source)
new = Palette()
assert not isinstance(old, Palette)
assert named(old) == named(new) == 'Palette' and named(None) == 'NoneType'
assert old.joined(new) is new and new.joined(old) is old
try:
    named('red')
except TypeError as error:
    print(error)
'''
    root = pathlib.Path(__file__).parents[1]
    command = [sys.executable, '-c', script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "named: palette is a str 'red', it should be a Palette or None\n")

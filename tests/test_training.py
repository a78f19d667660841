"""Trainings: longer ones, the same ones, those of any network; what is said before the
first step, and what is refused then and not at the end."""
import json
import warnings
from collections import namedtuple

import pytest
import safetensors.torch
import torch
from torch import nn

import ddpm_teach as d
from ddpm_teach import hooks
from ddpm_teach.hooks import CannotGoOn, Hook, ShortTraining
from ddpm_teach.plumbing.processes import has_bf16

SCHEDULE = d.cosine_schedule(60)
SEEDED = torch.Generator().manual_seed(0)
PICTURES = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8, generator=SEEDED)


def network():
    return d.UNet(channels=(8, 16), groups=4, attention=(), size=8, patch=1)


def new_model(made=network):
    torch.manual_seed(0)
    return d.DDPM(made(), SCHEDULE)


def quiet(folder=None, **options):
    return d.usual(folder, progress=False, **options)


def go(folder, epochs, *more, made=network, model=None, **options):
    """A training of 4 steps an epoch."""
    model = new_model(made) if model is None else model
    given = dict(batch_size=16, hooks=[*quiet(folder), *more]) | options
    return d.train(model, PICTURES, epochs, **given)


class StopAfter(Hook):
    """An interruption after so many steps of all."""

    def __init__(self, steps):
        self.steps = steps

    def after_step(self, run):
        if len(run.losses) == self.steps:
            raise KeyboardInterrupt


def stopped(folder, epochs, steps, **options):
    with pytest.raises(KeyboardInterrupt):
        go(folder, epochs, StopAfter(steps), **options)


def same(one, other):
    ours = one.model.state_dict()
    theirs = other.model.state_dict()
    equal = [torch.equal(ours[name], theirs[name]) for name in ours]
    return all(equal) and one.losses == other.losses


class Rates(Hook):
    """Writes down the learning rate of each step."""

    def __init__(self):
        self.met = []

    def after_step(self, run):
        self.met.append(run.optimiser.param_groups[0]['lr'])


# Longer, shorter, interrupted


def test_a_finished_training_goes_on(tmp_path, capsys):
    first = go(tmp_path, 2)
    assert capsys.readouterr().err == ''
    whole = Rates()
    go(None, 5, whole)
    rest = Rates()
    longer = go(tmp_path, 5, rest)
    assert longer.losses[:8] == first.losses and len(longer.losses) == 20
    assert rest.met == whole.met[8:]           # as if it had been planned for 5
    said, = capsys.readouterr().err.splitlines()
    assert '2 of 2 epochs are done' in said and 'goes on to 5' in said
    assert 'learning rate planned for 5' in said
    stored = d.load(tmp_path).network.state_dict()
    kept = longer.model.network.state_dict()
    assert all(torch.equal(stored[name], w.half().float()) for name, w in kept.items())
    assert len(json.loads((tmp_path / 'log.json').read_text())['first_losses']) == 4


@pytest.mark.parametrize('steps', [9, 12, 15])
def test_a_longer_training_can_be_interrupted(tmp_path, capsys, steps):
    go(tmp_path / 'straight', 2)
    straight = go(tmp_path / 'straight', 5)
    go(tmp_path / 'stopped', 2)
    stopped(tmp_path / 'stopped', 5, steps)
    assert same(go(tmp_path / 'stopped', 5), straight)
    # Not said when the number of epochs is the one that the checkpoint was made with.
    told = capsys.readouterr().err.count('goes on to')
    assert told == (2 if steps == 15 else 3)


def test_a_training_may_end_earlier_but_not_before_what_is_done(tmp_path):
    stopped(tmp_path, 6, 9)
    before = (tmp_path / 'checkpoint.safetensors').read_bytes()
    with pytest.raises(CannotGoOn, match='2 epochs are done.*epochs is 1.*2 or more'):
        go(tmp_path, 1)
    assert (tmp_path / 'checkpoint.safetensors').read_bytes() == before
    assert len(go(tmp_path, 3).losses) == 12


def test_a_refusal_can_be_said_in_other_words(tmp_path):
    go(tmp_path, 1)
    with pytest.raises(ValueError) as error:
        go(tmp_path, 1, lr=1e-3)
    assert error.value.path == tmp_path / 'checkpoint.safetensors'
    assert error.value.wrong == 'it was made with lr = 0.002, now it is 0.001'
    with pytest.raises(ValueError, match='network.channels = .8, 16., now it is .8, 8'):
        go(tmp_path, 1, made=lambda: d.UNet(**network().config | dict(channels=(8, 8))))
    for other in (PICTURES.flip(0), PICTURES[:63]):
        with pytest.raises(CannotGoOn, match='pictures or their order.*`load` reads'):
            d.train(new_model(), other, 1, batch_size=16, hooks=quiet(tmp_path))


def test_what_is_kept_is_known_when_a_training_is_interrupted(tmp_path):
    met = []

    class Listener(Hook):
        def after_step(self, run):
            met.append(run.kept)

    for steps, epochs in [(3, 0), (4, 0), (6, 1)]:
        kept = quiet(tmp_path / str(steps))
        given = [*kept, Listener(), StopAfter(steps)]
        with pytest.raises(KeyboardInterrupt):
            go(None, 3, hooks=given)
        one, = [hook for hook in kept if isinstance(hook, d.Checkpoint)]
        assert one.epochs_kept == epochs
        assert (tmp_path / f'{steps}/checkpoint.safetensors').exists() == (epochs > 0)
        words = 'none yet' if epochs == 0 else 'checkpoint.safetensors'
        assert met[-1].endswith(words)
    again = quiet(tmp_path / '6')
    with pytest.raises(KeyboardInterrupt):
        go(None, 3, hooks=[*again, StopAfter(5)])
    assert again[2].epochs_kept == 1


def test_to_begin_with_a_model_is_not_to_go_on(tmp_path):
    go(tmp_path / 'first', 2)
    other = PICTURES.flip(0)
    begun = d.load(tmp_path / 'first', 'cpu')
    tuned = d.train(
        begun, other, 1, batch_size=16, hooks=quiet(tmp_path / 'second'))
    assert len(tuned.losses) == 4
    fresh = d.train(new_model(), other, 1, batch_size=16, hooks=quiet())
    assert tuned.losses[0] < fresh.losses[0]


# The same seed, the same weights


class Count(nn.Module):
    """Counts how often it is asked, and by what kind of numbers it answers."""

    shape = (3, 8, 8)

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
        self.met = []

    def forward(self, x, i):
        answer = self.layer(x)
        self.met.append(answer.dtype)
        return answer


@pytest.mark.parametrize('options, kind', [
    (dict(bf16=None), torch.float32), (dict(bf16=False), torch.float32),
    (dict(bf16=True), torch.bfloat16),
])
@pytest.mark.parametrize('can', [False, True])
def test_no_stopwatch_chooses_the_precision(options, kind, can, monkeypatch):
    monkeypatch.setattr(hooks, 'has_bf16', lambda device: can)
    model = new_model(Count)
    d.train(model, PICTURES, 2, batch_size=16, hooks=quiet(**options))
    if options['bf16'] is None and can:
        kind = torch.bfloat16
    assert model.network.met == [kind] * 8     # and nothing is tried before step 1


@pytest.mark.parametrize('name', ['avx512_bf16', 'amx_bf16', 'avx2'])
def test_what_a_processor_has_is_read_off_its_list(name, monkeypatch):
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: {name: True})
    assert has_bf16(torch.device('cpu')) is (name != 'avx2')
    assert not has_bf16(torch.device('cuda'))
    monkeypatch.delattr(torch.cpu, 'get_capabilities')         # as in PyTorch 2.6
    assert not has_bf16(torch.device('cpu'))


@pytest.mark.parametrize('began, can', [(True, False), (False, True)])
def test_a_training_goes_on_in_the_precision_of_its_beginning(
        began, can, tmp_path, monkeypatch):
    def go_on(epochs, **options):
        model = new_model(Count)
        d.train(model, PICTURES, epochs, batch_size=16,
                hooks=quiet(tmp_path / 'run', **options))
        return set(model.network.met)
    kind = torch.bfloat16 if began else torch.float32
    assert go_on(1, bf16=began) == {kind}
    monkeypatch.setattr(hooks, 'has_bf16', lambda device: can)
    assert go_on(2) == {kind}                        # on a machine of another kind
    with pytest.raises(ValueError, match='precision.bf16'):
        go_on(3, bf16=not began)


def test_a_seed_means_the_same_weights(monkeypatch, tmp_path):
    now = iter(range(10**6))
    once = go(tmp_path / 'a', 2)
    monkeypatch.setattr('time.perf_counter', lambda: next(now)**2 / 7)
    assert same(go(tmp_path / 'b', 2), once)
    log = json.loads((tmp_path / 'b/log.json').read_text())
    assert log['bf16'] == log['precision.bf16'] == has_bf16(torch.device('cpu'))


# What is said before the first step


def test_a_plan_is_what_a_training_does():
    for count, epochs, batch_size in [(64, 3, 16), (60, 9, 64), (60, 2, 7), (5, 2, 99)]:
        found = d.plan(new_model(), PICTURES[:count], epochs, batch_size)
        steps = d.train(
            new_model(), PICTURES[:count], epochs, batch_size=batch_size, hooks=quiet())
        assert found.steps == len(steps.losses) == epochs * found.steps_in_epoch
        assert found.pictures == count and found.size == (8, 8)
    assert found.parameters == sum(w.numel() for w in network().parameters())


@pytest.mark.parametrize('planned, words', [
    (d.Plan(1240, (64, 64), 2_503_000, 19, 12_000),
     '1,240 pictures, 64x64, 2.5 M parameters, 12,000 steps'),
    (d.Plan(7, (8, 4), 999, 1, 1), '7 pictures, 8x4, 999 parameters, 1 step'),
    (d.Plan(7, (3,), 100_000, 1, 2),
     '7 points of 3 numbers, 0.1 M parameters, 2 steps'),
])
def test_a_plan_in_one_line(planned, words):
    assert str(planned) == words


@pytest.mark.parametrize('steps, T, said', [
    (1999, 50, ['1,999 steps']), (2000, 50, []), (2000, 49, ['T = 49']),
    (20, 3, ['epochs=1000', 'T = 3']),
])
def test_what_is_too_short_is_warned_of(steps, T, said):
    planned = d.Plan(64, (8, 8), 999, 4, steps)
    model = d.DDPM(nn.Identity(), d.cosine_schedule(T))
    with warnings.catch_warnings(record=True) as met:
        warnings.simplefilter('always')
        hooks.warn_if_short(planned, model)
    assert [w.category for w in met] == [ShortTraining] * len(said)
    assert all(words in str(w.message) for words, w in zip(said, met))
    assert hooks.USUAL_STEPS <= planned.usual_epochs * 4 < hooks.USUAL_STEPS + 4


def test_the_bar_says_what_will_be_done_and_warns_the_caller(capsys):
    with pytest.warns(ShortTraining, match='8 steps.*epochs=1000') as met:
        d.train(new_model(), PICTURES, 2, batch_size=16)
    assert [w.filename for w in met] == [__file__]
    lines = capsys.readouterr().err.replace('\r', '\n').splitlines()
    assert lines[0].startswith('64 pictures, 8x8') and lines[0].endswith(' 8 steps')
    assert not any('left' in line for line in lines)       # too few to measure


def bar_of(steps, batch_size, seconds, monkeypatch):
    """What the bar says after so many of 1,000 steps, each as long as that."""
    clock = [0.]
    monkeypatch.setattr('time.perf_counter', lambda: clock[0])
    run = hooks.Run(
        new_model(), d.data.as_data(PICTURES), None, torch.optim.SGD(
            [nn.Parameter(torch.zeros(1))], lr=.1),
        epochs=1000, lr=.1, batch_size=batch_size, seed=0, device='cpu', hooks=[])
    bar = d.Progress()
    bar.resume(run)
    for _ in range(steps):
        run.losses.append(1.)
        bar.after_step(run)
        clock[0] += seconds
    bar.end()
    return bar.bar.postfix


@pytest.mark.filterwarnings('ignore::ddpm_teach.hooks.ShortTraining')
def test_the_bar_counts_pictures_that_were_seen_and_the_time_left(monkeypatch):
    assert bar_of(1, 99, 2., monkeypatch) == 'loss 1.0000'
    assert bar_of(20, 99, 2., monkeypatch) == 'loss 1.0000, 32 pictures/s'
    said = bar_of(22, 99, 2., monkeypatch)
    assert said == 'loss 1.0000, 32 pictures/s, 33 min left'
    assert [hooks.duration(s) for s in (.4, 99, 100, 5999, 6000)] == [
        '0 s', '99 s', '2 min', '100 min', '1.7 h']


@pytest.mark.filterwarnings('ignore::ddpm_teach.hooks.ShortTraining')
def test_a_batch_larger_than_the_data_is_taken_down(capsys, monkeypatch, tmp_path):
    """And said, and a log counts what was seen."""
    clock = [0.]
    monkeypatch.setattr('time.perf_counter', lambda: clock[0])

    class Second(Hook):
        def after_step(self, run):
            clock[0] += 1

    found = d.train(
        new_model(), PICTURES[:5], 3, batch_size=4096,
        hooks=[Second(), d.Checkpoint(tmp_path), d.Progress()])
    said = 'a step takes 5 pictures, not 4096, since there are only 5'
    assert said in capsys.readouterr().err
    log = json.loads((tmp_path / 'log.json').read_text())
    assert len(found.losses) == 3 and log['pictures_per_second'] == 5


def test_a_preview_every_so_many_epochs():
    seen = {}
    for every in (1, 2, 3, 99):
        seen[every] = []

        def show(epoch, *_, every=every):
            seen[every].append(epoch)

        go(None, 5, d.Preview(show, every))
    assert seen == {1: [0, 1, 2, 3, 4], 2: [1, 3, 4], 3: [2, 4], 99: [4]}
    with pytest.raises(ValueError, match='every is 0, it should be'):
        d.Preview(print, 0)


def test_a_preview_leaves_dropout_on():
    met = []

    class Listener(Hook):
        def after_step(self, run):
            met.append(run.model.training)

    go(None, 2, hooks=[d.Preview(lambda *_: None), Listener()])
    assert all(met)


# Networks of all kinds: what is kept of them, from the first step


class Own(nn.Module):
    """A network of somebody else: nothing of it is known here. One weight has two
    names, one has no part in the answer, and there are other kinds of numbers."""

    shape = (3, 8, 8)

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.again = self.first
        self.unused = nn.Parameter(torch.zeros(2))
        self.norm = nn.BatchNorm2d(3)
        self.register_buffer('mask', torch.ones(1, dtype=torch.bool))
        self.register_buffer('row', torch.arange(8, dtype=torch.int32))
        self.config = {'norm': nn.BatchNorm2d, 'sizes': {(1, 2): 3}}

    def forward(self, x, i):
        return self.norm(self.again(self.first(x))) * self.mask


def frozen():
    made = network()
    for weights in list(made.parameters())[:9]:
        weights.requires_grad_(False)
    return made


def compiled():
    return torch.compile(network(), backend='eager')


def partly_compiled():
    made = network()
    made.last = torch.compile(made.last, backend='eager')
    made.time = torch.compile(made.time, backend='eager')
    return made


KINDS = {
    'own': Own,
    'frozen': frozen,
    'compiled': compiled,
    'partly compiled': partly_compiled,
    'for several devices': lambda: nn.DataParallel(network()),
}


@pytest.mark.parametrize('kind', KINDS)
def test_every_network_goes_on_and_is_kept(tmp_path, kind):
    made = KINDS[kind]
    straight = go(tmp_path / 'straight', 3, made=made)
    stopped(tmp_path / 'stopped', 3, 6, made=made)
    assert same(go(tmp_path / 'stopped', 3, made=made), straight)
    if kind == 'own':
        return
    again = d.load(tmp_path / 'stopped', 'cpu')
    x = torch.randn(2, 3, 8, 8)
    t = torch.tensor([1, 60])
    with torch.no_grad():
        off = again(x, t) - straight.model(x, t)
    assert off.abs().max() < .05                       # it was written with 16 bits


def test_compiled_or_not_it_is_one_training(tmp_path):
    straight = go(None, 3)
    stopped(tmp_path, 3, 6, made=compiled)
    assert go(tmp_path, 3).losses == pytest.approx(straight.losses, rel=1e-4)


@pytest.mark.parametrize('wrap', [
    nn.DataParallel, lambda model: torch.compile(model, backend='eager')])
def test_a_wrapped_model_is_unwrapped_and_that_is_said(tmp_path, capsys, wrap):
    straight = go(None, 2)
    found = go(tmp_path, 2, model=wrap(new_model()))
    assert same(found, straight)
    assert 'around the model is left out' in capsys.readouterr().err
    assert d.load(tmp_path).shape == (3, 8, 8)


def test_of_a_network_that_is_not_registered_the_weights_are_kept(tmp_path, capsys):
    trained = go(tmp_path, 2, made=Own)
    said, = capsys.readouterr().err.splitlines()
    file = tmp_path / 'weights.safetensors'
    assert 'model has a Own as its network' in said and repr(str(file)) in said
    assert not (tmp_path / 'model.safetensors').exists()
    again = new_model(Own)
    again.load_state_dict(safetensors.torch.load_file(file))      # as was said
    for name, value in trained.model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    with pytest.raises(FileNotFoundError, match='weights.*load_state_dict'):
        d.load(tmp_path)


def test_other_objectives_keep_their_weights_too(tmp_path, capsys):
    def rebuild(model, batch, draws):
        return (model(batch.x0) - batch.x0).pow(2).mean()

    model = nn.Conv2d(3, 3, 1)
    trained = go(tmp_path, 1, model=model, objective=rebuild).model
    found = safetensors.torch.load_file(tmp_path / 'weights.safetensors')
    assert torch.equal(found['weight'], trained.weight)
    assert 'a Conv2d, which cannot be written' in capsys.readouterr().err


# What is refused, and when: before the first step


class Never(Hook):
    def after_step(self, run):
        raise AssertionError('a step was taken')


def test_a_disk_without_room(tmp_path, monkeypatch):
    Usage = namedtuple('Usage', 'total used free')
    go(tmp_path / 'here', 1)
    size = (tmp_path / 'here/checkpoint.safetensors').stat().st_size
    free = [size // 3]
    monkeypatch.setattr('shutil.disk_usage', lambda path: Usage(0, 0, free[0]))
    for folder in ('here', 'new'):
        with pytest.raises(OSError, match=f'{folder}.*MB left.*make room'):
            go(tmp_path / folder, 2, Never())
    free[0] = 3 * size
    go(tmp_path / 'here', 2)
    go(tmp_path / 'new', 2)


@pytest.mark.parametrize('name', ['file', 'file/inside', 'file/far/inside'])
def test_a_folder_that_cannot_be_made(tmp_path, name):
    (tmp_path / 'file').write_text('here')
    with pytest.raises(OSError, match='^the folder .*file.* cannot be made.*another'):
        go(tmp_path / name, 1, Never())


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    """Also for root, who may write everywhere."""
    def refuse(**options):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('tempfile.TemporaryFile', refuse)
    with pytest.raises(PermissionError, match='^the folder .*(Permission denied)'):
        go(tmp_path, 1, Never())


def test_complex_numbers_are_refused_before_the_work(tmp_path):
    def made():
        own = Own()
        own.register_buffer('wave', torch.zeros(2, dtype=torch.complex64))
        return own

    with pytest.raises(ValueError, match='model.network.wave has complex numbers'):
        go(tmp_path, 1, Never(), made=made)


def test_checkpoints_of_another_version(tmp_path):
    go(tmp_path, 1)
    path = tmp_path / 'checkpoint.safetensors'
    data = path.read_bytes()
    path.write_bytes(data.replace(b'checkpoint 3', b'checkpoint 1'))
    with pytest.raises(CannotGoOn, match="'ddpm_teach checkpoint 1'.*another version"):
        go(tmp_path, 2, Never())

"""Words: a model that is asked in sentences, from training to the file and back."""
import warnings

import pytest
import torch
from torch import nn

from ddpm_teach import DDPM, characters, cosine_schedule, denoising, guided, load
from ddpm_teach import pretrained, read_labels, sample, save, to_uint8, train, usual
from ddpm_teach.captions import PHRASES, caption, listed, sayable
from ddpm_teach.plumbing.draws import Draws
from ddpm_teach.plumbing.tensor_files import write_tensors
from ddpm_teach.text import PADDING, START, UNKNOWN
from ddpm_teach.text import TextUNet, Words, captioned, vocabulary_of
from test_model_files import raw


@pytest.fixture(scope='module')
def data():
    return characters(128, size=16, progress=False)


@pytest.fixture(scope='module')
def words():
    labels = characters(12_000, progress=False).labels
    return Words(vocabulary_of(caption(labels[:4_000], Draws(0, 0))))


def small(words, **config):
    torch.manual_seed(0)
    usual_config = dict(
        width=16, channels=(8, 16), groups=4, attention=(4,), size=16)
    network = TextUNet(len(words), **(usual_config | config))
    for ask in network.modules():                  # as if it had learned to listen
        if hasattr(ask, 'value'):
            nn.init.normal_(ask.value.weight)
    return DDPM(network, cosine_schedule(20), conditioner=words)


def test_a_training_with_captions_comes_back_from_its_file(data, words, tmp_path):
    model = small(words)
    train(
        model, data, 1, objective=denoising(given=captioned(words)),
        hooks=usual(tmp_path, progress=False))
    read = load(tmp_path, 'cpu')
    assert read.conditioner.config == words.config
    ask = dict(prompt=['blue hair', 'a sad face'], guidance=2., seed=0, progress=False)
    drawn = sample(2, model=read, **ask)
    again = sample(2, model=tmp_path, **ask)
    assert drawn.shape == (2, 3, 16, 16) and torch.equal(drawn, again)


def test_words_change_the_picture_and_nothing_is_the_default(words):
    model = small(words)
    given = dict(model=model, seed=0, progress=False)
    plain = sample(2, **given)
    assert torch.equal(plain, sample(2, prompt='', **given))
    assert torch.equal(plain, sample(2, prompt='blue hair', guidance=0., **given))
    blue = sample(2, prompt='blue hair', **given)
    assert not torch.allclose(plain, blue)
    both = sample(2, prompt=['blue hair', ''], **given)
    assert torch.allclose(both[0], blue[0], atol=1e-4)
    assert torch.allclose(both[1], plain[1], atol=1e-4)


def test_padding_changes_nothing(words):
    model = small(words)
    x = torch.randn(1, 3, 16, 16)
    t = torch.tensor([7])
    given = words.tokens(['round glasses'])
    tokens = given['words']
    padded = torch.cat([tokens, torch.full((1, 9), PADDING)], dim=1)
    one = guided(model, given, 2.).x0_hat(x, t)
    other = guided(model, {'words': padded}, 2.).x0_hat(x, t)
    assert torch.allclose(one, other, atol=1e-5)


def test_unknown_words_are_named_with_what_is_near(words):
    with pytest.warns(UserWarning, match="'glases'; the nearest .* 'glasses'"):
        tokens = words(['round glases'])['words']
    assert tokens[0].tolist()[::2] == [START, UNKNOWN]
    with pytest.warns(UserWarning, match='`sayable'):
        words(['xylophone'])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        words(['Round GLASSES, blue hair'])
        words.tokens(['xylophone'])                # training says nothing


def test_long_sentences_are_cut(words):
    rows = words.tokens(['blue hair ' * 100, 'hair'])['words']
    assert rows.shape == (2, words.config['longest'])
    assert (rows[1, 2:] == PADDING).all()


def test_captions_are_shared_like_batches(data, words):
    """Two processes with half a batch each read what one reads with the whole."""
    whole = data.rows(torch.arange(8))
    given = captioned(words, silent=.3, unknown=.2)
    together = given(whole, Draws(3, 5))['words']
    for process in (0, 1):
        share = data.rows(torch.arange(8)[process::2])
        mine = given(share, Draws(3, 5, (process, 2)))['words']
        longest = mine.shape[1]
        assert torch.equal(mine, together[process::2, :longest])
        assert (together[process::2, longest:] == PADDING).all()


def test_every_word_that_can_be_said_is_in_the_vocabulary(words):
    for phrases in sayable().values():
        for word in ' '.join(phrases).split():
            assert word in words.number


def test_everything_true_can_be_listed_at_once():
    """No caption is longer than a row of tokens."""
    data = characters(500, progress=False)
    longest = max(len(max(phrases, key=len).split()) for phrases in PHRASES.values())
    texts = caption(data.labels, Draws(0, 0), templates=[listed])
    words = Words(vocabulary_of(texts))
    assert longest < 10
    assert words.tokens(texts)['words'].shape[1] < words.config['longest']


FILES = {
    'no such conditioner': dict(kind='os.system', arguments={}),
    'a network for a conditioner': dict(kind='unet', arguments={}),
    'a list': ['words'],
    'a list for its kind': dict(kind=['words'], arguments={}),
    'no arguments': dict(kind='words', arguments={}),
    'an unknown argument': dict(kind='words', arguments=dict(eval='1')),
    'numbers for words': dict(kind='words', arguments=dict(vocabulary=[[1], [2]])),
    'a giant': dict(kind='words', arguments=dict(vocabulary=['a'], longest=10**9)),
    'more': dict(kind='words', arguments=dict(vocabulary=['a']), also=1),
}


@pytest.mark.parametrize('change', FILES)
def test_absurd_conditioners_are_refused(words, tmp_path, change):
    path = save(small(words), tmp_path / 'm.safetensors')
    tensors, about = raw(path)
    write_tensors(tensors, path, about | dict(conditioner=FILES[change]))
    with pytest.raises(ValueError, match='cannot be used') as error:
        load(path)
    assert 'conditioner' in str(error.value)


def test_the_model_that_ships_draws_what_it_is_told():
    prompts = ['green hair, a mint background', 'red hair, sunglasses'] * 8
    images = sample(16, prompts, steps=10, seed=0, progress=False)
    read, _ = read_labels(to_uint8(images))
    values = characters(1, progress=False).words
    seen = {name: [every[k] for k in read[:, i].long().tolist()]
            for i, (name, every) in enumerate(values.items())}
    assert seen['hairColor'].count('green') >= 7
    assert seen['hairColor'].count('red') >= 7
    assert seen['backgroundColor'][::2].count('mint') >= 7
    assert seen['glasses'][1::2].count('variant02') >= 6


def test_which_model_ships_is_chosen_by_name():
    given = dict(steps=2, seed=0, progress=False)
    told = sample(1, 'blue hair', **given)
    assert torch.equal(told, sample(1, 'blue hair', model='words', **given))
    assert torch.equal(sample(1, **given), sample(1, model='characters', **given))
    with pytest.raises(ValueError, match="'no', it should be one of"):
        pretrained('no')

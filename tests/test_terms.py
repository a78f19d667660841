"""A word that a reader has to learn stands in the lesson that explains it, not before.

Each term, as a pattern, with the lesson that explains it. That lesson must use it, and
no earlier one may, but in its list of what to read.
"""
import re

import pytest
from places import LESSONS
from test_notebooks import cells

TERMS = {
    r'epoch': '01',
    r'signal.to.noise|\bSNR\b': '02',
    r'\bposterior\b': '03',
    r'\bmixture\b': '03',
    r'\bscore\b': '03',
    r'\bELBO\b|evidence lower bound': '04',
    r'\bKL\b|Kullback': '04',
    r'Bayes floor': '04',
    r'min.SNR': '04',
    r'simple loss': '04',
    r'\bmedian\b': '04',
    r'skip connection': '05',
    r'GroupNorm': '05',
    r'\bSiLU\b': '05',
    r'self.attention|\battention\b': '05',
    r'residual block': '05',
    r'\bpatches\b': '05',
    r'moving average': '06',
    r'warm.?up': '06',
    r'bfloat16': '06',
    r'ancestral': '07',
    r'Fr[eé]chet': '08',
    r'kernel distance': '08',
    r'jackknife': '08',
    r'\bdoubt\b': '08',
    r'\bunbiased\b': '08',
    r'chi.square': '08',
    r'\bDDIM\b': '09',
    r'DPM.Solver': '09',
    r'linear floor': '10',
    r'\bgrain\b': '10',
    r'classifier.free': '11',
    r'\bguidance\b': '11',
    r'conditioner': '11',
    r'cross.attention': '12',
    r'\btokens?\b': '12',
    r'vocabulary': '12',
    r'\bcaption': '12',
    r'autoencoder': '13',
    r'\blatents?\b': '13',
}
POINTER = r'[^.\n]*\bnotebooks? \d\d[^.\n]*'       # a sentence that says: later


def prose(path) -> str:
    """What a lesson explains: no list of readings, no sentence that points onward."""
    texts = []
    for _, source in cells(path, 'markdown'):
        head = source.split('## Where to read more')[0]
        texts.append(re.sub(POINTER, '', head))
    return '\n'.join(texts)


PROSE = {path.stem[:2]: prose(path) for path in LESSONS}


@pytest.mark.parametrize('term', TERMS)
def test_a_term_is_not_used_before_it_is_explained(term):
    home = TERMS[term]
    assert re.search(term, PROSE[home], flags=re.I), 'its lesson does not use it'
    for number, text in PROSE.items():
        if '00' < number < home:
            early = re.search(rf'[^.]*(?:{term})[^.]*', text, flags=re.I)
            assert early is None, f'{number}: {early[0].strip()}'

"""What GitHub runs: workflows that can be read and name what is there, three systems,
and a script that says what its steps take. And the package, without Linux."""
import ast
import platform
import re
import shutil
import subprocess
import sys

import pytest

from lowest import lowest, requirements
from places import ROOT

yaml = pytest.importorskip('yaml', reason='pyyaml is missing: pip install -e ".[dev]"')
FILES = sorted((ROOT / '.github/workflows').glob('*.yml'))


def read(path):
    return yaml.safe_load(path.read_text(encoding='utf-8'))


def workflow(name):
    return read(ROOT / f'.github/workflows/{name}.yml')


def commands(job):
    return [step['run'] for step in job['steps'] if 'run' in step]


JOBS = [pytest.param(job, id=f'{path.stem}-{name}')
        for path in FILES for name, job in read(path)['jobs'].items()]


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_a_workflow_has_its_parts(path):
    found = read(path)
    assert found['name'] and found['jobs']
    assert found[True], 'YAML reads the word "on" as true'


@pytest.mark.parametrize('job', JOBS)
def test_a_job_ends_and_names_what_is_there(job):
    assert job['runs-on'] and job['timeout-minutes'] <= 180
    for step in job['steps']:
        assert ('uses' in step) != ('run' in step), step
        assert re.fullmatch(r'[\w-]+/[\w-]+@v\d+', step.get('uses', 'a/b@v1'))
    for place in re.findall(r'(?:tests|\.ci)/[\w./]+', ' '.join(commands(job))):
        assert (ROOT / place).is_file(), place
    extras = re.findall(r'"\.\[(\w+)\]"', ' '.join(commands(job)))
    for extra in extras:
        assert requirements(extra)


def test_three_systems_and_the_long_tests():
    jobs = workflow('test')['jobs']
    assert commands(jobs['test']) == ['bash .ci/run']
    systems = jobs['elsewhere']['strategy']['matrix']['os']
    assert systems == ['windows-latest', 'macos-latest']
    nightly = workflow('nightly')
    assert re.fullmatch(r'\d+ \d+ \* \* \*', nightly[True]['schedule'][0]['cron'])
    assert any('pytest --slow' in line for line in commands(nightly['jobs']['slow']))


def test_the_versions_of_colab_are_tried_and_allowed():
    job = workflow('supply')['jobs']['colab']
    assert 'python tests/tools/colab.py' in commands(job)
    set_up = next(step for step in job['steps'] if 'python' in step.get('uses', ''))
    assert set_up['with']['python-version'] == '3.12'
    source = (ROOT / 'tests/tools/colab.py').read_text(encoding='utf-8')
    allowed = requirements('notebooks')
    for name in ('ipython', 'ipywidgets'):
        version = re.search(rf"'{name}==([\d.]+)'", source)[1]
        assert version.startswith(lowest(allowed[name]))


SCRIPT = (ROOT / '.ci/run').read_text(encoding='utf-8')


def test_the_commands_of_the_readme_are_found_word_for_word():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    patterns = re.findall(r"grep -m1 -o '([^']+)' README.md", SCRIPT)
    assert len(patterns) == 2
    for pattern in patterns:
        assert len(re.findall(pattern, text)) == 1, pattern


@pytest.mark.skipif(not shutil.which('bash') or sys.platform == 'win32',
                    reason='bash is missing')
def test_each_step_says_how_long_it_took():
    functions = re.findall(r'^(?:name=|took\(\)|step\(\)).*$', SCRIPT, flags=re.M)
    program = '\n'.join([
        'set -euo pipefail', *functions, 'trap took EXIT', 'step one', 'sleep 1',
        'step two', 'false'])
    done = subprocess.run(['bash', '-c', program], capture_output=True, text=True)
    assert done.returncode == 1
    first, second = re.findall(r'^-- (\d+) s, \d+ s in all: (\w+)$', done.stdout, re.M)
    assert first[1] == 'one' and int(first[0]) >= 1
    assert second[1] == 'two'


ONLY_UNIX = {'fcntl', 'resource', 'pwd', 'grp', 'termios', 'tty', 'pty', 'readline'}
UNIX_CALLS = {'fork', 'getuid', 'geteuid', 'killpg', 'mkfifo', 'SIGKILL', 'SIGALRM',
              'sched_getaffinity', 'uname', 'getpgid', 'setsid', 'statvfs'}


def imported(node):
    if isinstance(node, ast.Import):
        return {alias.name.split('.')[0] for alias in node.names}
    return {node.module} if isinstance(node, ast.ImportFrom) else set()


@pytest.mark.parametrize(
    'path', sorted((ROOT / 'ddpm_teach').rglob('*.py')), ids=lambda path: path.stem)
def test_the_package_needs_no_unix(path):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        assert not imported(node) & ONLY_UNIX, ast.unparse(node)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            unix = node.value.id in ('os', 'signal') and node.attr in UNIX_CALLS
            assert not unix, ast.unparse(node)


def test_without_glibc_memory_is_left_alone(monkeypatch):
    import ctypes

    from ddpm_teach.plumbing.processes import keep_memory

    def refuse(name):
        raise TypeError('Windows: there is no library without a name')

    monkeypatch.setattr(platform, 'libc_ver', lambda *args: ('', ''))
    monkeypatch.setattr(ctypes, 'CDLL', refuse)
    keep_memory()

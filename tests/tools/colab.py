"""The versions that Colab has of what shows pictures and panels: do they work there?

`python tests/tools/colab.py` makes a virtual environment with them, which borrows all
the rest from the one that runs this, and runs in it the tests of pictures and panels,
and two notebooks.
"""
import pathlib
import subprocess
import sys
import sysconfig
import tempfile
import venv

import nbformat
from nbclient import NotebookClient
from places import ROOT, notebook

VERSIONS = ['ipython==7.34.0', 'ipywidgets==7.7.1', 'ipykernel==6.17.1']
TESTS = ['tests/test_colab.py', 'tests/test_pictures.py']
NOTEBOOKS = ['show', 'playground']


def make_environment(folder: str) -> str:
    """Its Python."""
    venv.create(folder, with_pip=True)
    scripts = 'Scripts' if sys.platform == 'win32' else 'bin'
    python = pathlib.Path(folder) / scripts / 'python'
    ask = 'import sysconfig; print(sysconfig.get_path("purelib"))'
    place = subprocess.check_output([python, '-c', ask], text=True).strip()
    pip = [python, '-m', 'pip', 'install', '-q', '--disable-pip-version-check']
    subprocess.run([*pip, 'setuptools<81', *VERSIONS], check=True)
    borrowed = {sysconfig.get_path(kind) for kind in ('purelib', 'platlib')}
    lines = '\n'.join([*borrowed, str(ROOT)])
    (pathlib.Path(place) / 'borrowed.pth').write_text(lines, encoding='utf-8')
    return str(python)


def run_notebook(python: str, name: str):
    """Run a notebook on a kernel of that Python; its pictures must have words."""
    path = notebook(name)
    book = nbformat.read(path, 4)
    client = NotebookClient(
        book, timeout=600, resources={'metadata': {'path': str(path.parent)}})
    client.create_kernel_manager()
    client.km.kernel_spec.argv[0] = python
    client.execute()
    outputs = [o for c in book.cells for o in c.get('outputs', []) if 'data' in o]
    pictures = [o for o in outputs if 'image/png' in o.data]
    for picture in pictures:
        assert len(picture.metadata['image/png']['alt']) > 20, picture.metadata
    widgets = sum('widget-view' in kind for o in outputs for kind in o.data)
    print(f'{name}: {len(pictures)} pictures with words, {widgets} panels')


def main():
    with tempfile.TemporaryDirectory() as folder:
        python = make_environment(folder)
        subprocess.run([python, '--version'], check=True)
        subprocess.run([python, '-m', 'pytest', '-q', *TESTS], cwd=ROOT, check=True)
        for name in NOTEBOOKS:
            run_notebook(python, name)


if __name__ == '__main__':
    sys.exit(main())

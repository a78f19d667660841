"""Notebooks in the very form in which JupyterLab saves them.

Otherwise each shows as changed as soon as it is opened. `nbdev_clean` writes another
name of the kernel and leaves out its language, so this comes after it.
"""
import nbformat
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelspec import get_kernel_dict

from places import NOTEBOOKS


def metadata(stored: dict) -> dict:
    """What JupyterLab says of kernel and language; the version of Python stays."""
    spec = get_kernel_dict()
    language = IPythonKernel.language_info
    version = stored.get('language_info', {}).get('version', language['version'])
    return {
        'kernelspec': {
            'display_name': spec['display_name'],
            'language': spec['language'],
            'name': 'python3',
        },
        'language_info': language | {'version': version},
    }


def normal(text: str) -> str:
    """A notebook as JupyterLab saves it."""
    notebook = nbformat.reads(text, as_version=4)
    notebook.metadata = nbformat.from_dict(metadata(notebook.metadata))
    return nbformat.writes(notebook, version=4) + '\n'


def write_as_jupyterlab():
    for path in NOTEBOOKS:
        text = path.read_text(encoding='utf-8')
        if normal(text) != text:
            path.write_text(normal(text), encoding='utf-8')

"""Take live widgets out of the saved outputs of the notebooks: without a kernel they show an error. `python tests/without_widgets.py`."""
import pathlib

import nbformat

WIDGET = 'application/vnd.jupyter.widget-view+json'

for path in sorted((pathlib.Path(__file__).parents[1] / 'nbs').glob('*.ipynb')):
    notebook = nbformat.read(path, as_version=4)
    live = [cell for cell in notebook.cells if any(WIDGET in output.get('data', {}) for output in cell.get('outputs', []))]
    for cell in live:
        cell.outputs = [output for output in cell.outputs if WIDGET not in output.get('data', {})]
    if live or 'widgets' in notebook.metadata:
        notebook.metadata.pop('widgets', None)
        nbformat.write(notebook, path)

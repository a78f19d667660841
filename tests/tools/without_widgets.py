"""Live widgets in saved outputs show an error without a kernel; this takes them out."""
import nbformat
from places import NOTEBOOKS

WIDGET = 'application/vnd.jupyter.widget-view+json'


def is_live(output) -> bool:
    return WIDGET in output.get('data', {})


def take_out_widgets():
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        live = [c for c in notebook.cells if any(map(is_live, c.get('outputs', [])))]
        for cell in live:
            cell.outputs = [output for output in cell.outputs if not is_live(output)]
        if live or 'widgets' in notebook.metadata:
            notebook.metadata.pop('widgets', None)
            nbformat.write(notebook, path)

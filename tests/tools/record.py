"""The last results of the long tests, by name, in nbs/results/tests/trust.json."""
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform

FILE = pathlib.Path(__file__).parents[2] / 'nbs/results/tests/trust.json'


def about() -> dict:
    """When and where something was found."""
    load = None                       # how many processes wanted a core: seconds mean
    if hasattr(os, 'getloadavg'):     # little if many did
        load = round(os.getloadavg()[0], 1)
    found = dict(
        date=datetime.date.today().isoformat(),
        python=platform.python_version(),
        system=f'{platform.system()} {platform.machine()}',
        cores=os.cpu_count(),
        load_average=load,
    )
    for package in ('torch', 'numpy', 'safetensors'):
        found[package] = importlib.metadata.version(package)
    return found


def record(name: str, **found):
    """Keep what a long test has found, in place of what it found before."""
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    kept[name] = about() | found
    FILE.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + '\n')

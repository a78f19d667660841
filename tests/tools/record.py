"""The last results of the long tests, each under its name in nbs/results/tests/trust.json."""
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform

FILE = pathlib.Path(__file__).parents[2] / 'nbs/results/tests/trust.json'


def record(name: str, **found):
    """Keep what a long test has found, with date and versions, in place of what it found before."""
    versions = {package: importlib.metadata.version(package) for package in ('torch', 'numpy', 'safetensors')}
    load = round(os.getloadavg()[0], 1) if hasattr(os, 'getloadavg') else None          # how many processes wanted a core: seconds mean little if many did
    about = dict(date=datetime.date.today().isoformat(), python=platform.python_version(), system=f'{platform.system()} {platform.machine()}', cores=os.cpu_count(), load_average=load, **versions)
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    FILE.write_text(json.dumps(dict(sorted((kept | {name: about | found}).items())), indent=1) + '\n')

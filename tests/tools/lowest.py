"""The lowest version of every requirement that settings.ini allows, for pip.

`python tests/tools/lowest.py > constraints.txt`
"""
import configparser
import pathlib
import re

SETTINGS = pathlib.Path(__file__).parents[2] / 'settings.ini'


def requirements(*extras: str) -> dict[str, str]:
    """Name and bounds of each requirement, of the package and of extras."""
    config = configparser.ConfigParser(delimiters=['='])
    config.read(SETTINGS, encoding='utf-8')
    found = {}
    for key in ['requirements', *(f'{extra}_requirements' for extra in extras)]:
        for line in config['DEFAULT'][key].split('\n'):
            if line.strip():
                name, bounds = re.fullmatch(r'([\w.-]+)(.*)', line.strip()).groups()
                found[name] = bounds
    return found


def lowest(bounds: str) -> str:
    return re.search(r'[>=]=([\w.]+)', bounds)[1]


if __name__ == '__main__':
    for name, bounds in requirements().items():
        print(f'{name}=={lowest(bounds)}')

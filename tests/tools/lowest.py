"""The lowest version of every requirement that settings.ini allows, as constraints for pip: `python tests/tools/lowest.py > constraints.txt`."""
import configparser
import pathlib
import re

SETTINGS = pathlib.Path(__file__).parents[2] / 'settings.ini'


def requirements(*extras: str) -> dict[str, str]:
    """Name and bounds of each requirement, of the package and of extras."""
    config = configparser.ConfigParser(delimiters=['='])
    config.read(SETTINGS, encoding='utf-8')
    keys = ['requirements', *(f'{extra}_requirements' for extra in extras)]
    lines = [line.strip() for key in keys for line in config['DEFAULT'][key].splitlines() if line.strip()]
    return {match[1]: match[2] for match in (re.fullmatch(r'([\w.-]+)(.*)', line) for line in lines)}


def lowest(bounds: str) -> str:
    return re.search(r'[>=]=([\w.]+)', bounds)[1]


if __name__ == '__main__':
    for name, bounds in requirements().items():
        print(f'{name}=={lowest(bounds)}')

"""Everything the package says of itself is read from settings.ini."""

import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

config = ConfigParser(delimiters=['='])
config.read('settings.ini', encoding='utf-8')
cfg = config['DEFAULT']


def lines(key: str) -> list[str]:
    return [line for line in cfg[key].splitlines() if line]


class WithNotebooks(build_py):
    """Puts the notebooks and what they read into the wheel, for `copy_exercises`; an
    editable install finds them in the clone."""

    def run(self):
        super().run()
        for pattern in (
            ()
            if self.editable_mode
            else (
                '*.ipynb',
                '*/*.ipynb',
                'tools/*.py',
                '*.css',
                'images/*',
                'results/*/*',
                'results/*/*/*',
            )
        ):
            for path in filter(Path.is_file, Path('nbs').glob(pattern)):
                target = Path(self.build_lib, 'ddpm_teach', path)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=Path('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    keywords=cfg['keywords'],
    license='Apache-2.0',
    license_files=['LICENSE'],
    url=cfg['git_url'],
    project_urls={'Documentation': cfg['doc_host'] + cfg['doc_baseurl']},
    package_dir={'': '.'},      # so that editors follow an editable install
    packages=find_packages(include=['ddpm_teach', 'ddpm_teach.*']),
    package_data={'ddpm_teach': ['*.safetensors', '*.pyi', 'py.typed']},
    python_requires='>=' + cfg['min_python'],
    install_requires=lines('requirements'),
    extras_require={
        extra: lines(f'{extra}_requirements')
        for extra in ('bench', 'course', 'dev', 'docs', 'inception', 'notebooks')
    },
    entry_points={'console_scripts': lines('console_scripts')},
    cmdclass={'build_py': WithNotebooks},
    zip_safe=False,
)

"""`python -m ddpm_teach`"""
import os
import sys


def main():
    """The program; quiet also when it is stopped while PyTorch is read, which takes
    seconds."""
    try:
        from ddpm_teach.cli import main as program
    except KeyboardInterrupt:
        print('\nddpm_teach: stopped before anything was begun', file=sys.stderr)
        # `sys.exit` would end by the signal if it fell into code that C evaluates
        os._exit(130)
    program()


if __name__ == '__main__':
    main()

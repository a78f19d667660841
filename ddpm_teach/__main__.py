"""`python -m ddpm_teach`"""
import os
import signal
import sys


def stop(*_):
    "At once: an exception raised in the middle of an import may be swallowed there."
    print('\nddpm_teach: stopped before anything was begun', file=sys.stderr, flush=True)
    os._exit(130)


def main():
    """The program; quiet also when it is stopped while PyTorch is read, which takes
    seconds."""
    usual = signal.default_int_handler
    watched = signal.getsignal(signal.SIGINT) is usual     # not ignored, as after `&`
    if watched:
        signal.signal(signal.SIGINT, stop)
    from ddpm_teach.cli import main as program
    if watched:
        signal.signal(signal.SIGINT, usual)
    program()


if __name__ == '__main__':
    main()

"""`python -m ddpm_teach`"""
from ddpm_teach.cli import main

main()

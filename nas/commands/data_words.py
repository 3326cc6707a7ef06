"""The words by which commands take images."""

from __future__ import annotations

import argparse


def add_data(parser: argparse.ArgumentParser, words: str) -> None:
    """--data with its help, and --train-dir and --val-dir; `nas.data.layout.data_of` puts them together."""
    parser.add_argument("--data", metavar="DIR", help=words)
    parser.add_argument("--train-dir", metavar="DIR",
                        help="folder of the training images, in --data or elsewhere, where no usual name says so")
    parser.add_argument("--val-dir", metavar="DIR", help="folder of the validation images, likewise")
